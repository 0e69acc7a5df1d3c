//! Compiles our own admin API; Envoy's messages come from `envoy-types`. protox needs no installed protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let proto = "proto/exeat/admin/v1/admin.proto";
    println!("cargo:rerun-if-changed={proto}");
    let descriptors = protox::compile([proto], ["proto"])?;
    // The same shapes are the JSON of `/status`.
    tonic_prost_build::configure()
        .type_attribute(".", "#[derive(serde::Serialize)]")
        .compile_fds(descriptors)?;
    Ok(())
}
