//! [`Outcome`]: how a test went that did not fail.

/// A failure is an error; these are the other ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything the witness saw is recorded. With a remark or without.
    Pass(String),
    /// Something is not, and it is declared: how.
    Limit(String),
    /// The machine lacks what the test needs.
    Skip(String),
}

impl Outcome {
    /// Without a remark.
    pub fn pass() -> Self {
        Self::Pass(String::new())
    }

    /// The worse of the two, with what both say.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Pass(one), Self::Pass(two)) => Self::Pass(join(one, &two)),
            (Self::Limit(one), Self::Limit(two)) if one == two => Self::Limit(one),
            (Self::Limit(one), Self::Limit(two)) => Self::Limit(join(one, &two)),
            (Self::Skip(why), _) | (_, Self::Skip(why)) => Self::Skip(why),
            (Self::Limit(why), Self::Pass(_)) | (Self::Pass(_), Self::Limit(why)) => {
                Self::Limit(why)
            }
        }
    }

    /// As the protocol has it, with the runs of kernel programs that the kernel
    /// left out meanwhile.
    pub fn with_missed(&self, missed: u64) -> String {
        let (word, text) = match self {
            Self::Pass(remark) => ("PASS", remark),
            Self::Limit(why) => ("LIMIT", why),
            Self::Skip(why) => ("SKIP", why),
        };
        let missed = match missed {
            0 => String::new(),
            missed => format!("{missed} runs of kernel programs left out"),
        };
        let text = join(text.clone(), &missed);
        format!("{word} {text}").trim_end().to_owned()
    }
}

fn join(one: String, two: &str) -> String {
    match (one.is_empty(), two.is_empty()) {
        (_, true) => one,
        (true, false) => two.to_owned(),
        (false, false) => format!("{one}; {two}"),
    }
}
