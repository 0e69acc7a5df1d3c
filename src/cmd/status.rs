//! `exeat status`: who is connected and has what.

use super::connect;
use crate::{
    admin::proto::{Refusal, ResourceState, Sidecar, StatusRequest, StatusResponse},
    cli::StatusArgs,
};
use std::{fmt::Write, io::IsTerminal, process::ExitCode};

/// Clears a terminal.
const CLEAR: &str = "\x1b[2J\x1b[H";

pub(super) async fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let mut admin = connect(args.admin).await?;
    if !args.watch {
        print(&admin.status(StatusRequest {}).await?.into_inner(), args.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut changes = admin.watch_status(StatusRequest {}).await?.into_inner();
    while let Some(status) = changes.message().await? {
        if !args.json && std::io::stdout().is_terminal() {
            print!("{CLEAR}");
        }
        print(&status, args.json)?;
    }
    anyhow::bail!("the control plane has stopped")
}

fn print(status: &StatusResponse, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(status)?);
    } else {
        print!("{}", text(status));
    }
    Ok(())
}

fn text(status: &StatusResponse) -> String {
    let StatusResponse { exeat_version, version, entries, files, sidecars, ready, refused } = status;
    let mut text = if *ready {
        format!("exeat {exeat_version} serves {entries} entries, version {version}\n")
    } else {
        format!("exeat {exeat_version} serves nothing yet: no allowlist was valid so far\n")
    };
    for file in files {
        let state = match (file.in_force, file.restored) {
            (true, _) => "in force",
            (false, true) => "NOT in force; what was in force before the start is (--state-dir)",
            (false, false) => "NOT in force; what it allowed before is",
        };
        let _ = writeln!(text, "  {}: {state}", file.path);
        for diagnostic in &file.diagnostics {
            let _ = writeln!(text, "    {diagnostic}");
        }
    }
    for Refusal { node_id, peer, reason, at, times } in refused {
        let _ = writeln!(text, "  refused {node_id} at {peer}: {reason} ({times} times, last at {at})");
    }
    let rows: Vec<[String; 7]> = sidecars.iter().map(row).collect();
    if rows.is_empty() {
        text.push_str("no sidecar is connected\n");
        return text;
    }
    let title = ["NODE", "ENVOY", "IDENTITY", "AGENT", "PEER", "CONNECTED", "STATE"].map(str::to_owned);
    let all: Vec<&[String; 7]> = std::iter::once(&title).chain(&rows).collect();
    let mut widths = [0; 7];
    for row in &all {
        for (width, cell) in widths.iter_mut().zip(*row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in all {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

fn row(sidecar: &Sidecar) -> [String; 7] {
    let Sidecar { node_id, envoy_version, identity, group, peer, connected_at, .. } = sidecar;
    let same = if identity == node_id { "-" } else { identity.as_str() };
    let version = if envoy_version.is_empty() { "-" } else { envoy_version };
    let cells = [node_id.as_str(), version, same, group, peer, connected_at];
    let [node, envoy, identity, agent, peer, connected] = cells.map(str::to_owned);
    [node, envoy, identity, agent, peer, connected, state(sidecar)]
}

/// In sync, or why not.
fn state(sidecar: &Sidecar) -> String {
    let late = if sidecar.late_revocation { ", late revocation" } else { "" };
    format!("{}{late}", progress(sidecar))
}

fn progress(sidecar: &Sidecar) -> String {
    if let Some(rejection) = rejections(sidecar).first() {
        return format!("rejected {rejection}");
    }
    match (sidecar.in_sync, sidecar.edits_behind) {
        (true, _) => "in sync".to_owned(),
        (false, Some(1)) => "1 edit behind".to_owned(),
        (false, Some(edits)) if edits > 0 => format!("{edits} edits behind"),
        (false, _) => "has not accepted everything".to_owned(),
    }
}

/// What a sidecar rejected and has not accepted since, as `lds: its words (see file:line)`.
pub(super) fn rejections(sidecar: &Sidecar) -> Vec<String> {
    let rejection = |state: &ResourceState| {
        let place = match state.nack_origin.as_str() {
            "" => String::new(),
            origin => format!(" (see {origin})"),
        };
        (!state.nack.is_empty()).then(|| format!("{}: {}{place}", state.r#type, state.nack))
    };
    sidecar.resources.iter().filter_map(rejection).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_sees_who_is_behind_and_why() {
        let sidecar = |node: &str, in_sync, behind, nack: &str| Sidecar {
            late_revocation: node == "longer",
            node_id: node.to_owned(),
            envoy_version: "1.40.0".to_owned(),
            identity: "spiffe://td/a".to_owned(),
            group: "common".to_owned(),
            peer: "unix".to_owned(),
            connected_at: "2026-11-24T00:00:00Z".to_owned(),
            in_sync,
            edits_behind: behind,
            resources: vec![ResourceState {
                r#type: "rds".to_owned(),
                nack: nack.to_owned(),
                nack_origin: "allowlist.yaml:3".to_owned(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let status = StatusResponse {
            exeat_version: "1".to_owned(),
            ready: true,
            version: "v".to_owned(),
            entries: 2,
            sidecars: vec![
                sidecar("a", true, Some(0), ""),
                sidecar("longer", false, Some(2), ""),
                sidecar("c", false, None, "bad domain"),
            ],
            ..Default::default()
        };
        assert_eq!(
            text(&status),
            "exeat 1 serves 2 entries, version v\n\
             NODE    ENVOY   IDENTITY       AGENT   PEER  CONNECTED             STATE\n\
             a       1.40.0  spiffe://td/a  common  unix  2026-11-24T00:00:00Z  in sync\n\
             longer  1.40.0  spiffe://td/a  common  unix  2026-11-24T00:00:00Z  2 edits behind, late revocation\n\
             c       1.40.0  spiffe://td/a  common  unix  2026-11-24T00:00:00Z  rejected rds: bad domain (see allowlist.yaml:3)\n"
        );
    }
}
