//! Which sidecars may have resources at all.

use crate::{ads::Node, envoy::MINIMUM_VERSION};

/// Refuses Envoys that would ignore the guard of private addresses. Other xDS clients enforce nothing and may look.
pub(super) fn admit(node: &Node) -> Result<(), String> {
    let (major, minor) = MINIMUM_VERSION;
    match node.version {
        Some(version)
            if node.user_agent.eq_ignore_ascii_case("envoy")
                && (version.major, version.minor) < MINIMUM_VERSION =>
        {
            Err(format!(
                "Envoy {version} would ignore the guard of private addresses; use Envoy {major}.{minor} or later"
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ads::UserAgentVersion;

    #[test]
    fn refuses_an_old_envoy_and_says_which_is_needed() {
        let envoy = |minor| Node {
            id: "n".into(),
            user_agent: "envoy".into(),
            version: Some(UserAgentVersion { major: 1, minor, patch: 0 }),
            ..Default::default()
        };
        assert!(admit(&envoy(40)).is_ok());
        assert!(admit(&envoy(39)).unwrap_err().contains("use Envoy 1.40 or later"));
        assert!(admit(&Node { id: "n".into(), ..Default::default() }).is_ok());
    }
}
