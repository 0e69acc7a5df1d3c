//! The protocol machines against a model of a client, with random interleavings.
//!
//! Whatever happens (edits, subscriptions, answers late or never, rejections of which an unknown part is applied, new
//! streams on which the client does not say what it really has), the client ends with exactly what is served and
//! subscribed, gets no name twice in a response, never something it did not ask for, never an older revision after a
//! newer one, and nothing once it has everything.

mod client;
mod order;

use client::{Client, Delta, Sotw};
use envoy_types::pb::google::protobuf::Any;
use exeat::{
    envoy::ResourceKind,
    snapshot::{Fallbacks, Published, Resource, Snapshot},
};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

const NAMES: [&str; 4] = ["A", "B", "C", "D"];

/// Revision by name; what does not exist is absent.
type World = BTreeMap<&'static str, u8>;

#[derive(Debug, Clone)]
enum Action {
    Edit(World),
    Subscribe {
        names: [bool; 4],
        wildcard: bool,
    },
    /// The server's turn.
    Poll,
    /// The client answers the oldest response it has not answered.
    Ack,
    /// The client takes this part of a response and rejects it.
    Nack {
        taken: u8,
    },
    StaleNonce,
    Wait,
    Reconnect,
}

fn world() -> impl Strategy<Value = World> {
    prop::collection::vec(prop::option::of(0_u8..3), NAMES.len()).prop_map(|revisions| {
        NAMES.into_iter().zip(revisions).filter_map(|(name, revision)| Some((name, revision?))).collect()
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => world().prop_map(Action::Edit),
        2 => (any::<[bool; 4]>(), prop::bool::weighted(0.2))
            .prop_map(|(names, wildcard)| Action::Subscribe { names, wildcard }),
        6 => Just(Action::Poll),
        4 => Just(Action::Ack),
        2 => any::<u8>().prop_map(|taken| Action::Nack { taken }),
        1 => Just(Action::StaleNonce),
        1 => Just(Action::Wait),
        1 => Just(Action::Reconnect),
    ]
}

fn body(kind: ResourceKind, content: String) -> Any {
    Any { type_url: kind.type_url().to_owned(), value: content.into_bytes() }
}

/// The first byte is the name, so that it can be told from the body.
fn snapshot(kind: ResourceKind, world: &World) -> Published {
    let resources = world.iter().map(|(name, revision)| Resource {
        kind,
        name: (*name).to_owned(),
        body: body(kind, format!("{name}{revision}")),
    });
    Published::first(Snapshot::new(resources.collect(), &Fallbacks::new(), None))
}

/// Plays the actions, lets everything settle, and looks at what the client has.
fn play<C: Client>(kind: ResourceKind, actions: Vec<Action>) {
    let mut client = C::new(kind);
    let mut world = World::new();
    let mut current = snapshot(kind, &world);
    let mut now = Instant::now();
    for action in actions {
        match action {
            Action::Edit(next) => {
                world = next;
                current = snapshot(kind, &world);
            }
            Action::Subscribe { names, wildcard } => {
                let wanted = NAMES.into_iter().zip(names).filter_map(|(name, yes)| yes.then_some(name));
                client.subscribe(wanted.collect(), wildcard && kind.is_full_state());
            }
            Action::Poll => drop(client.poll(&current, now)),
            Action::Ack => drop(client.answer(None)),
            Action::Nack { taken } => drop(client.answer(Some(taken))),
            Action::StaleNonce => client.stale(),
            Action::Wait => now += Duration::from_secs(3),
            Action::Reconnect => client.reconnect(),
        }
    }
    // After a rejection nothing is repeated before there is a change. Here everything changes, and changes again to what
    // the last edit was.
    let everything: World = NAMES.into_iter().map(|name| (name, 20)).collect();
    world.values_mut().for_each(|revision| *revision += 10);
    for last in [&everything, &world] {
        current = snapshot(kind, last);
        for turn in 0.. {
            assert!(turn < 20, "it does not settle");
            let polled = client.poll(&current, now);
            if !client.answer(None) && !polled {
                break;
            }
        }
    }
    let mut has = client.has();
    if !C::TELLS_DELETIONS && !kind.is_full_state() {
        has.retain(|name, _| world.contains_key(name.as_str()));
    }
    let target: BTreeMap<String, String> = world
        .iter()
        .filter(|(name, _)| client.wants(name))
        .map(|(name, revision)| ((*name).to_owned(), format!("{name}{revision}")))
        .collect();
    assert_eq!(has, target);
    assert!(client.in_sync() || !client.has_asked());
    let later = now + Duration::from_secs(60);
    assert!(!client.poll(&current, later), "something is sent although nothing changed");
}

const KINDS: [ResourceKind; 4] = [
    ResourceKind::Cluster,
    ResourceKind::Endpoints,
    ResourceKind::Listener,
    ResourceKind::RouteConfiguration,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn state_of_the_world_ends_at_the_target(
        kind in prop::sample::select(KINDS.to_vec()),
        actions in prop::collection::vec(action(), 0..40),
    ) {
        play::<Sotw>(kind, actions);
    }

    #[test]
    fn delta_ends_at_the_target(
        kind in prop::sample::select(KINDS.to_vec()),
        actions in prop::collection::vec(action(), 0..40),
    ) {
        play::<Delta>(kind, actions);
    }
}
