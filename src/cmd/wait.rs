//! `exeat wait`: ends when an edit is live, for scripts.

use super::{FINDINGS, connect, status::rejections};
use crate::{
    admin::proto::{ReloadRequest, Sidecar, StatusRequest, StatusResponse},
    cli::WaitArgs,
};
use std::{process::ExitCode, time::Duration};

/// How a look at the state ends the wait.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Live(String),
    Failed(String),
    /// Not yet, and why.
    Pending(String),
}

pub(super) async fn wait(args: &WaitArgs) -> anyhow::Result<ExitCode> {
    let mut why = String::from("the control plane does not answer");
    let live = async {
        let mut admin = connect(args.admin).await?;
        "somebody is writing to the allowlist files".clone_into(&mut why);
        // What was saved before this command began counts, whether or not the server has noticed it yet.
        admin.reload(ReloadRequest {}).await?;
        let mut changes = admin.watch_status(StatusRequest {}).await?.into_inner();
        while let Some(status) = changes.message().await? {
            match judge(&status, args.sidecars) {
                Outcome::Live(text) => {
                    println!("{text}");
                    return Ok(ExitCode::SUCCESS);
                }
                Outcome::Failed(text) => {
                    eprintln!("exeat: {text}");
                    return Ok(ExitCode::from(FINDINGS));
                }
                Outcome::Pending(reason) => why = reason,
            }
        }
        anyhow::bail!("the control plane has stopped")
    };
    match tokio::time::timeout(Duration::from_secs_f64(args.timeout), live).await {
        Ok(outcome) => outcome,
        Err(_) => {
            eprintln!("exeat: not live after {} s: {why}", args.timeout);
            Ok(ExitCode::from(FINDINGS))
        }
    }
}

/// Decides by the state after a look at the files.
fn judge(status: &StatusResponse, at_least: usize) -> Outcome {
    if let Some(file) = status.files.iter().find(|file| !file.in_force) {
        let path = &file.path;
        return Outcome::Failed(format!("{path} is not in force\n{}", file.diagnostics.join("\n")));
    }
    // Who has asked for nothing that is served is not waited for.
    let sidecars: Vec<&Sidecar> = status.sidecars.iter().filter(|one| !one.resources.is_empty()).collect();
    // A sidecar may not have been sent yet what mends an earlier rejection.
    let rejects = |one: &&&Sidecar| one.resources.iter().any(|state| state.nack_is_current);
    let rejected = sidecars
        .iter()
        .filter(rejects)
        .find_map(|one| Some((&one.node_id, rejections(one).into_iter().next()?)));
    if let Some((node, rejection)) = rejected {
        return Outcome::Failed(format!("sidecar {node} rejected {rejection}"));
    }
    if sidecars.len() < at_least {
        return Outcome::Pending(format!("{} of {at_least} sidecars are connected", sidecars.len()));
    }
    let behind: Vec<&str> =
        sidecars.iter().filter(|one| !one.in_sync).map(|one| one.node_id.as_str()).collect();
    if !behind.is_empty() {
        return Outcome::Pending(format!("no answer yet from {}", behind.join(", ")));
    }
    let entries = status.entries;
    Outcome::Live(match sidecars.len() {
        0 => format!("{entries} entries are served; no sidecar is connected"),
        count => format!("{entries} entries are live on {count} of {count} sidecars"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::proto::{AllowlistFile, ResourceState};

    #[test]
    fn a_script_is_told_what_became_of_an_edit() {
        let sidecar = |in_sync, nack: &str| Sidecar {
            node_id: "n".to_owned(),
            in_sync,
            resources: vec![ResourceState {
                r#type: "rds".to_owned(),
                nack: nack.to_owned(),
                nack_is_current: nack == "bad",
                ..Default::default()
            }],
            ..Default::default()
        };
        let status = |sidecars: Vec<Sidecar>, in_force| StatusResponse {
            files: vec![AllowlistFile {
                restored: false,
                path: "f".to_owned(),
                in_force,
                diagnostics: vec!["f:1:1: no".to_owned()],
            }],
            entries: 2,
            sidecars,
            ..Default::default()
        };
        let judge = |sidecars, in_force, at_least| judge(&status(sidecars, in_force), at_least);
        let text = |text: &str| text.to_owned();
        assert_eq!(
            judge(vec![], true, 0),
            Outcome::Live(text("2 entries are served; no sidecar is connected"))
        );
        assert_eq!(judge(vec![], true, 1), Outcome::Pending(text("0 of 1 sidecars are connected")));
        assert_eq!(
            judge(vec![sidecar(true, "")], true, 1),
            Outcome::Live(text("2 entries are live on 1 of 1 sidecars"))
        );
        assert_eq!(judge(vec![sidecar(false, "")], true, 1), Outcome::Pending(text("no answer yet from n")));
        assert_eq!(
            judge(vec![sidecar(false, "bad")], true, 0),
            Outcome::Failed(text("sidecar n rejected rds: bad"))
        );
        assert_eq!(
            judge(vec![sidecar(false, "of an earlier edit")], true, 0),
            Outcome::Pending(text("no answer yet from n"))
        );
        assert_eq!(
            judge(vec![sidecar(true, "")], false, 0),
            Outcome::Failed(text("f is not in force\nf:1:1: no"))
        );
    }
}
