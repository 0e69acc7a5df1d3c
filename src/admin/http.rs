//! Admin HTTP: health, readiness, metrics and status. Read only.

use super::{StatusSource, metrics::StateCollector};
use crate::metrics::Metrics;
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use std::sync::Arc;

const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

struct Admin {
    source: StatusSource,
    registry: Registry,
}

/// The routes.
pub fn router(source: StatusSource, metrics: &Metrics) -> Router {
    let mut registry = Registry::with_prefix("exeat");
    metrics.register(&mut registry);
    registry.register_collector(Box::new(StateCollector(source.clone())));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .route("/status", get(status))
        .with_state(Arc::new(Admin { source, registry }))
}

/// What there is instead.
pub async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "not found; there are /healthz /readyz /metrics /status\n").into_response()
}

/// Red until a valid allowlist is in force. A later bad edit leaves it green: the last good policy is served.
async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    match admin.source.stores.version() {
        Some(_) => "ready\n".into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "no valid allowlist has been read yet\n").into_response(),
    }
}

async fn scrape(State(admin): State<Arc<Admin>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &admin.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> Response {
    Json(admin.source.view()).into_response()
}
