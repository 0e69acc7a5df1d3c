//! Commands that print what is shipped: presets, the schema, completions, and proxy variables.

use super::{print, proxy_env};
use crate::{
    allowlist::{PRESETS_VERSION, Preset, nearest, presets},
    cli::{Cli, CompletionsArgs, EnvArgs, EnvFormat, PresetsArgs, PresetsCommand},
};
use anyhow::bail;
use clap::CommandFactory;
use std::process::ExitCode;

/// For editors; also in the repository.
const SCHEMA: &str = include_str!("../../deploy/allowlist.schema.json");

pub(super) fn presets_command(args: &PresetsArgs) -> anyhow::Result<ExitCode> {
    let Some(PresetsCommand::Show { name }) = &args.command else {
        let width = presets().iter().map(|preset| preset.name.len()).max().unwrap_or_default();
        let list = presets().iter().map(|preset| format!("{:width$}  {}\n", preset.name, preset.summary()));
        return print(&list.collect::<String>());
    };
    let Some(preset) = Preset::find(name) else {
        let names: Vec<&str> = presets().iter().map(|preset| preset.name).collect();
        match nearest(name, &names) {
            Some(known) => bail!("there is no preset `{name}`; did you mean `{known}`?"),
            None => bail!("there is no preset `{name}`; `exeat presets` lists them"),
        }
    };
    print(&format!("# presets version {PRESETS_VERSION}\n{}", preset.text))
}

pub(super) fn schema() -> anyhow::Result<ExitCode> {
    print(SCHEMA)
}

pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "exeat", &mut script);
    print(&String::from_utf8_lossy(&script))
}

pub(super) fn env(args: &EnvArgs) -> anyhow::Result<ExitCode> {
    let variables = proxy_env::variables(&args.proxy, None);
    let mut text = String::new();
    if args.format() == EnvFormat::Compose {
        text.push_str("environment:\n");
    }
    for (name, value) in variables {
        let value = value.to_string_lossy();
        text.push_str(&match args.format() {
            // Nothing in a value needs more than quotes.
            EnvFormat::Shell => format!("export {name}='{value}'\n"),
            EnvFormat::Compose => format!("  {name}: \"{value}\"\n"),
            EnvFormat::Dockerfile => format!("ENV {name}=\"{value}\"\n"),
        });
    }
    print(&text)
}
