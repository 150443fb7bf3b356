//! Servers other than OpenSSH.

use anyhow::{Result, ensure};
use auditty_tests::{
    SOON,
    client::{Auth, Client},
    dropbear::Dropbear,
};

use crate::{
    account::{self, SHOWN},
    outcome::Outcome,
    rig::{Rig, present},
};

/// A login to dropbear is recorded like one to OpenSSH, or the agent says that
/// it is not.
pub fn dropbear(rig: &mut Rig) -> Result<Outcome> {
    if !present("dropbear") {
        return Ok(Outcome::Skip("no dropbear here".to_owned()));
    }
    let server = Dropbear::start(&rig.scene, &rig.user, rig.key())?;
    let key = Auth::Key(rig.key().to_owned());
    let client = Client::new(&rig.sshd, &rig.user, key).at(server.port);
    // It goes when everything is shown: see [`Dropbear`].
    let mut typist = client.typist("stty -echo; seq 1 2000; read -r go")?;
    typist.expect("\n2000\r\n")?;
    typist.line("go")?;
    let (status, shown) = typist.finish(SOON)?;
    ensure!(
        status.success(),
        "ssh ended with {status}; dropbear said: {}",
        server.process.log()
    );
    let limit = rig.limited("servers other than OpenSSH");
    if let Some(why) = limit.filter(|why| !why.contains("dropbear")) {
        return Ok(Outcome::Limit(why));
    }
    let recording = rig.recording()?;
    let user = &recording.session()["login"]["user"];
    ensure!(*user == rig.user.name.as_str(), "the user is {user}");
    if let Some(why) = rig.limited("sessions of dropbear") {
        let gaps = recording.of("gap");
        ensure!(
            gaps.iter().any(|gap| gap["cause"] == "detached"),
            "what is not captured is not declared"
        );
        return Ok(Outcome::Limit(why));
    }
    account::compare(&recording, SHOWN, &shown)
}
