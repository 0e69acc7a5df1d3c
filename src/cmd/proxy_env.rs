//! The environment variables that send a program's traffic through a proxy.

use std::ffi::OsString;

/// Never wider: what is listed here leaves without the proxy.
const NO_PROXY: &str = "localhost,127.0.0.1,::1";

/// Every name and spelling that common runtimes look at. `java_options` is what JAVA_TOOL_OPTIONS held.
pub(super) fn variables(proxy: &str, java_options: Option<OsString>) -> Vec<(&'static str, OsString)> {
    let url = format!("http://{proxy}");
    let (host, port) = proxy.rsplit_once(':').unwrap_or((proxy, "80"));
    let mut java = java_options.unwrap_or_default();
    if !java.is_empty() {
        java.push(" ");
    }
    java.push(format!(
        "-Dhttp.proxyHost={host} -Dhttp.proxyPort={port} -Dhttps.proxyHost={host} -Dhttps.proxyPort={port}"
    ));
    // curl ignores HTTP_PROXY in upper case, others know nothing else.
    let urls = [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "npm_config_proxy",
        "npm_config_https_proxy",
        "PIP_PROXY",
        "OPENCLAW_PROXY_URL",
    ];
    let mut variables: Vec<_> = urls.map(|name| (name, url.clone().into())).to_vec();
    variables.extend([("NO_PROXY", NO_PROXY.into()), ("no_proxy", NO_PROXY.into())]);
    // Node from 22.21 and 24.5 on.
    variables.push(("NODE_USE_ENV_PROXY", "1".into()));
    variables.push(("JAVA_TOOL_OPTIONS", java));
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_java_was_told() {
        let variables = variables("127.0.0.1:10000", Some("-Xmx1g".into()));
        let java = &variables.iter().find(|(name, _)| *name == "JAVA_TOOL_OPTIONS").unwrap().1;
        assert!(
            java.to_str().unwrap().starts_with("-Xmx1g -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=10000")
        );
        assert!(variables.contains(&("https_proxy", "http://127.0.0.1:10000".into())));
    }
}
