//! `exeat dump`: the Envoy resources that the allowlists become.

use super::{FAILED, asking, connect, print, why::no_agent, words};
use crate::{
    admin::proto::DumpRequest,
    allowlist::to_yaml,
    cli::{DumpArgs, DumpFormat},
    envoy::{self, Resource, ResourceKind},
    policy::Timestamp,
    server,
};
use anyhow::{Context, anyhow};
use serde_json::Value;
use std::{process::ExitCode, time::SystemTime};

pub(super) fn dump(args: &DumpArgs) -> anyhow::Result<ExitCode> {
    let resources = match args.of.server {
        Some(server) => {
            let request = DumpRequest {
                agent: args.of.agent.clone().unwrap_or_default(),
                r#type: args.kind.map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
            };
            let answer = asking(async { Ok(connect(server).await?.dump(request).await?.into_inner()) });
            let resources = answer.map_err(words)?.resources.into_iter();
            resources.map(|one| (one.r#type, one.type_url, one.value)).collect()
        }
        None => {
            let Some(policies) = server::read(&args.of.allowlists, true).policies else {
                eprintln!(
                    "exeat: a file is not valid, so there is nothing to print; exeat check says what is wrong"
                );
                return Ok(ExitCode::from(FAILED));
            };
            let policies = policies.at(Timestamp::of(SystemTime::now()));
            let agent = args.of.agent.as_deref();
            let policy =
                policies.policy(agent).ok_or_else(|| no_agent(agent.unwrap_or_default(), &policies))?;
            let resources = envoy::compile(policy, &args.profile.profile()?).into_iter();
            let part = |one: Resource| (one.kind.as_str().to_owned(), one.body.type_url, one.body.value);
            resources.map(part).collect::<Vec<_>>()
        }
    };
    let wanted = |kind: &str| args.kind.is_none_or(|only| only.as_str() == kind);
    let order = |kind: &str| ResourceKind::ALL.iter().position(|known| known.as_str() == kind);
    let mut resources: Vec<_> = resources.into_iter().filter(|(kind, ..)| wanted(kind)).collect();
    resources.sort_by_key(|(kind, ..)| order(kind));
    let mut all = Vec::new();
    for (_, type_url, value) in resources {
        all.push(envoy::json(&type_url, &value).map_err(|error| anyhow!(error))?);
    }
    let all = Value::Array(all);
    match args.format {
        DumpFormat::Json => print(&(serde_json::to_string_pretty(&all)? + "\n")),
        DumpFormat::Yaml => print(&to_yaml(&all).context("cannot write YAML")?),
    }
}
