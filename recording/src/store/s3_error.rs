//! What an S3 error means: one readable line, and whether trying again helps.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::Failure;

/// Codes that come with a 4xx status and pass by themselves; some say that the
/// object was damaged on its way.
const TRANSIENT_CODES: [&str; 12] = [
    "BadDigest",
    "ConditionalRequestConflict",
    "ExpiredToken",
    "IncompleteBody",
    "OperationAborted",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "SlowDown",
    "Throttling",
    "TooManyRequests",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
];

/// An object is there already.
pub(super) fn is_precondition_failed<E>(error: &SdkError<E, HttpResponse>) -> bool {
    error
        .raw_response()
        .is_some_and(|response| response.status().as_u16() == 412)
}

/// Classifies an SDK error.
pub(super) fn failure<E>(error: &SdkError<E, HttpResponse>) -> Failure
where
    E: Error + ProvideErrorMetadata + 'static,
{
    let SdkError::ServiceError(service) = error else {
        let line = chain(error);
        return match find::<CredentialsError>(error) {
            // Without credentials nothing was sent.
            Some(CredentialsError::ProviderTimedOut(_)) => Failure::Transient(line),
            Some(_) => Failure::Config(line),
            None => Failure::Unanswered(line),
        };
    };
    let status = service.raw().status().as_u16();
    let code = service.err().code().unwrap_or_default();
    if status == 404 && code != "NoSuchBucket" {
        return Failure::NotFound;
    }
    let line = describe(status, code, service.err(), service.raw());
    match status {
        408 | 409 | 425 | 429 | 503 => Failure::Transient(line),
        // A server in trouble may have stored it before it got there.
        500.. => Failure::Unanswered(line),
        _ if TRANSIENT_CODES.contains(&code) => Failure::Transient(line),
        _ => Failure::Config(line),
    }
}

fn describe<E: ProvideErrorMetadata>(
    status: u16,
    code: &str,
    error: &E,
    response: &HttpResponse,
) -> String {
    let mut line = format!("the server answered {status}");
    for part in [Some(code), error.message()].into_iter().flatten() {
        if !part.is_empty() {
            line.push_str(&format!(" {}", one_line(part)));
        }
    }
    if let Some(region) = response.headers().get("x-amz-bucket-region") {
        line.push_str(&format!(" (the bucket is in region {})", one_line(region)));
    }
    if let Some(id) = response.request_id() {
        line.push_str(&format!(" (request {})", one_line(id)));
    }
    line
}

/// An error with its sources, in one line: the outermost alone says little
/// ("dispatch failure").
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = one_line(&error.to_string());
    let mut source = error.source();
    while let Some(error) = source {
        let text = one_line(&error.to_string());
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = error.source();
    }
    line
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut error = Some(error);
    while let Some(current) = error {
        if let Some(found) = current.downcast_ref() {
            return Some(found);
        }
        error = current.source();
    }
    None
}

/// A server's words must not reach a log or a terminal with control characters.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect()
}
