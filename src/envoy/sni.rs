//! The check of what must be TLS: an internal listener that a tunnel passes before its chain.
//!
//! It reads the ClientHello, however it is cut into pieces, and lets through what is TLS for the host that CONNECT asked for.
//! Nothing of the policy is in it. Nothing is dialled before it has decided, and no name but that of CONNECT is ever
//! resolved.

use super::{
    access_log,
    any::{duration, network_filter, number, pack},
    carry::AUTHORITY,
    chain::Inner,
    inner,
};
use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{BackoffStrategy, CelExpressionConfig},
            listener::v3::{FilterChain, FilterChainMatch, Listener, ListenerFilter, listener_filter},
            rbac::v3::{Permission, Policy, Principal, Rbac as Rules, permission, principal, rbac::Action},
        },
        extensions::filters::{
            listener::tls_inspector::v3::TlsInspector,
            network::{
                rbac::v3::Rbac,
                tcp_proxy::v3::{TcpProxy, UpstreamConnectMode},
            },
        },
    },
    google::api::expr::v1alpha1::{
        Constant, Expr,
        constant::ConstantKind,
        expr::{Call, ExprKind, Ident, Select},
    },
};
use std::time::Duration;

/// The listener, and the cluster that leads to it.
pub(super) const NAME: &str = "sni";
/// A client must have sent its ClientHello by then. Others, which wait for the server to speak first, need `protocol: tcp`.
pub(super) const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// What may come with the ClientHello.
const EARLY_DATA: u32 = 64 * 1024;

pub(super) fn listener() -> Listener {
    let check = Rbac {
        stat_prefix: NAME.to_owned(),
        rules: Some(Rules {
            action: Action::Allow.into(),
            policies: [("same-host".to_owned(), same_host())].into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let go_on = TcpProxy {
        // The check is made on the first bytes: nothing may be dialled before.
        upstream_connect_mode: UpstreamConnectMode::OnDownstreamData.into(),
        max_early_data_bytes: number(EARLY_DATA),
        // As routes do: an edit may be on its way.
        max_connect_attempts: number(1 + inner::AGAIN),
        backoff_options: Some(BackoffStrategy {
            base_interval: duration(inner::AGAIN_AFTER.0),
            max_interval: duration(inner::AGAIN_AFTER.1),
        }),
        ..inner::tcp_proxy(Inner::Tls.name())
    };
    Listener {
        listener_filters: vec![ListenerFilter {
            name: "envoy.filters.listener.tls_inspector".to_owned(),
            config_type: Some(listener_filter::ConfigType::TypedConfig(pack(&TlsInspector::default()))),
            ..Default::default()
        }],
        listener_filters_timeout: duration(HELLO_WITHIN),
        filter_chains: vec![FilterChain {
            name: NAME.to_owned(),
            // What is not TLS has no chain.
            filter_chain_match: Some(FilterChainMatch {
                transport_protocol: "tls".to_owned(),
                ..Default::default()
            }),
            filters: vec![
                network_filter("envoy.filters.network.rbac", pack(&check)),
                network_filter("envoy.filters.network.tcp_proxy", pack(&go_on)),
            ],
            ..Default::default()
        }],
        access_log: access_log::of_checks(),
        ..inner::listener(NAME)
    }
}

/// The SNI, with a colon and a port, is the authority; an address has no SNI.
fn same_host() -> Policy {
    let sni = || select(ident("connection"), "requested_server_name");
    let authority = || call("string", None, [call("_[_]", None, [ident("filter_state"), text(AUTHORITY)])]);
    let none = || call("_==_", None, [sni(), text("")]);
    let named = call(
        "_&&_",
        None,
        [
            call("!_", None, [none()]),
            call("startsWith", Some(authority()), [call("_+_", None, [sni(), text(":")])]),
        ],
    );
    let address =
        call("matches", Some(authority()), [text(r"^(\[[0-9a-f:.]+\]|[0-9]+(\.[0-9]+){3}):[0-9]+$")]);
    let unnamed = call("_&&_", None, [none(), address]);
    Policy {
        permissions: vec![Permission { rule: Some(permission::Rule::Any(true)) }],
        principals: vec![Principal { identifier: Some(principal::Identifier::Any(true)) }],
        condition: Some(call("_||_", None, [named, unnamed])),
        cel_config: Some(CelExpressionConfig {
            enable_string_conversion: true,
            enable_string_concat: true,
            ..Default::default()
        }),
        ..Default::default()
    }
}

const fn expression(kind: ExprKind) -> Expr {
    Expr { id: 0, expr_kind: Some(kind) }
}

fn ident(name: &str) -> Expr {
    expression(ExprKind::IdentExpr(Ident { name: name.to_owned() }))
}

fn select(operand: Expr, field: &str) -> Expr {
    let operand = Some(Box::new(operand));
    expression(ExprKind::SelectExpr(Box::new(Select { operand, field: field.to_owned(), test_only: false })))
}

fn text(text: &str) -> Expr {
    let constant_kind = Some(ConstantKind::StringValue(text.to_owned()));
    expression(ExprKind::ConstExpr(Constant { constant_kind }))
}

fn call<const N: usize>(function: &str, target: Option<Expr>, args: [Expr; N]) -> Expr {
    let call = Call { target: target.map(Box::new), function: function.to_owned(), args: args.into() };
    expression(ExprKind::CallExpr(Box::new(call)))
}
