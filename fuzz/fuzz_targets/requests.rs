//! A client's bytes, from the wire through the protocol machines: nothing panics, what is sent can be read, no name
//! comes twice, and what is not asked for does not come.
//!
//! The input is a list of steps: one byte says which, one how many bytes of a request follow.
#![no_main]

use envoy_types::pb::{
    envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse},
    google::protobuf::Any,
};
use exeat::{
    ads::{DeltaMachine, Machine, Scope, SotwMachine, Step},
    snapshot::{Fallbacks, Published, Resource, ResourceKind, Snapshot, Store, Urgency},
};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use std::{
    collections::BTreeSet,
    sync::LazyLock,
    time::{Duration, Instant},
};

/// Three states, the last of which takes something away.
static STATES: LazyLock<[Published; 3]> = LazyLock::new(|| {
    let store = Store::new();
    let state = |names: &[&str], revision: &str, urgency| {
        let resources = ResourceKind::ALL.into_iter().flat_map(|kind| {
            names.iter().map(move |name| Resource {
                kind,
                name: (*name).to_owned(),
                body: Any { type_url: kind.type_url().to_owned(), value: format!("{name}{revision}").into() },
            })
        });
        store.publish(Snapshot::new(resources.collect(), &fallbacks(), None), urgency);
        store.current().unwrap_or_else(|| Published::first(Snapshot::new(Vec::new(), &fallbacks(), None)))
    };
    [
        state(&["a", "b"], "1", Urgency::Additions),
        state(&["a", "b", "c"], "2", Urgency::Additions),
        state(&["c"], "3", Urgency::Tightening),
    ]
});

fn fallbacks() -> Fallbacks {
    fn deny(name: &str) -> Any {
        let kind = ResourceKind::RouteConfiguration;
        Any { type_url: kind.type_url().to_owned(), value: format!("deny {name}").into() }
    }
    [(ResourceKind::RouteConfiguration, deny as fn(&str) -> Any)].into()
}

fn play<M: Machine>(mut data: &[u8], scope: Scope, check: impl Fn(&[u8])) {
    let mut machine = M::new(scope, &[]);
    let (mut state, mut now) = (0, Instant::now());
    while let [step, rest @ ..] = data {
        data = rest;
        match step % 4 {
            0 => {
                let [length, rest @ ..] = data else { return };
                let (request, rest) = rest.split_at(rest.len().min(usize::from(*length)));
                data = rest;
                let Ok(mut request) = M::Request::decode(request) else { continue };
                M::node(&mut request);
                if machine.on_request(&request, |_| vec!["a".into(), "gone".into()]).is_err() {
                    return;
                }
            }
            1 => {
                let published = &STATES[state];
                // A client that is not asked anything new is sent each state once, and its way out of a gate.
                for turn in 0.. {
                    assert!(turn < 40, "it does not come to rest");
                    match machine.poll(published, now) {
                        Step::Send(response) => check(&M::encode(response).concat()[5..]),
                        Step::Wait(_) => break,
                    }
                }
            }
            2 => state = (state + 1) % STATES.len(),
            _ => now += Duration::from_millis(700),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let [choice, data @ ..] = data else { return };
    let scope = if choice & 2 == 0 { Scope::Aggregated } else { Scope::Only(ResourceKind::Cluster) };
    if choice & 1 == 0 {
        play::<SotwMachine>(data, scope, |bytes| {
            let response = DiscoveryResponse::decode(bytes).expect("a response");
            let bodies: BTreeSet<&[u8]> = response.resources.iter().map(|one| one.value.as_slice()).collect();
            assert_eq!(bodies.len(), response.resources.len(), "a resource twice");
            assert!(!response.nonce.is_empty() && !response.version_info.is_empty());
        });
    } else {
        play::<DeltaMachine>(data, scope, |bytes| {
            let response = DeltaDiscoveryResponse::decode(bytes).expect("a response");
            let names = response.resources.iter().map(|one| &one.name).chain(&response.removed_resources);
            let all: BTreeSet<&String> = names.clone().collect();
            assert_eq!(all.len(), names.count(), "a name twice");
            assert!(!response.nonce.is_empty());
        });
    }
});
