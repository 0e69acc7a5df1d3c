//! The xDS core by itself, serving resources that no allowlist would make.

use envoy_types::pb::google::protobuf::Any;
use exeat::{
    ads::{Aggregated, Context, DiscoveryService, Doubts, OneGroup, Routes},
    envoy::ResourceKind,
    fleet::{Fleet, Sidecar},
    snapshot::{Fallbacks, Resource, Snapshot, Store, Urgency},
};
use prost::{Message, Name};
use std::{net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::TcpIncoming};

pub struct GenericServer {
    pub store: Arc<Store>,
    pub fleet: Fleet,
    pub address: SocketAddr,
    doubts: Doubts,
    runtime: Runtime,
    stop: CancellationToken,
}

impl GenericServer {
    pub fn start(address: SocketAddr) -> Self {
        let mut this = Self {
            store: Arc::new(Store::new()),
            fleet: Fleet::new(),
            address,
            doubts: Doubts::default(),
            runtime: Runtime::new().unwrap(),
            stop: CancellationToken::new(),
        };
        this.serve();
        this
    }

    fn serve(&mut self) {
        self.stop = CancellationToken::new();
        let context = Context {
            groups: Arc::new(OneGroup(Arc::clone(&self.store))),
            fleet: self.fleet.clone(),
            doubts: self.doubts.clone(),
            trusted: &[],
            shutdown: self.stop.clone(),
        };
        let listener = self.runtime.block_on(TcpListener::bind(self.address)).unwrap();
        self.address = listener.local_addr().unwrap();
        let stop = self.stop.clone();
        self.runtime.spawn(async move {
            Server::builder()
                .add_service(DiscoveryService::<Aggregated>::new(context.clone()))
                .add_service(DiscoveryService::<Routes>::new(context))
                .serve_with_incoming_shutdown(TcpIncoming::from(listener), stop.cancelled())
                .await
                .unwrap();
        });
    }

    /// Ends all streams, does something while nobody is connected, and serves again.
    pub fn cut_and(&mut self, meanwhile: impl Fn(&Self)) {
        self.stop.cancel();
        super::wait_until("everybody is gone", || self.fleet.sidecars().is_empty());
        super::wait_until("the port is free", || std::net::TcpListener::bind(self.address).is_ok());
        meanwhile(self);
        self.serve();
    }

    pub fn publish(&self, resources: Vec<Resource>) {
        let previous = self.store.current();
        let previous = previous.as_ref().map(|published| &*published.snapshot);
        self.store.publish(Snapshot::new(resources, &Fallbacks::new(), previous), Urgency::Additions);
    }

    /// The one client.
    pub fn sidecar(&self) -> Option<Sidecar> {
        self.fleet.sidecars().into_iter().next().map(|(_, sidecar)| sidecar)
    }

    /// Waits until the one client has everything.
    pub fn wait_live(&self) {
        let edit = self.store.current().unwrap().edit.number();
        super::wait_until("the client has everything", || {
            self.sidecar().and_then(|one| one.live).is_some_and(|(live, _)| live == edit)
        });
    }

    pub fn wait_nack(&self, kind: ResourceKind) -> String {
        let mut message = None;
        super::wait_until("the client rejects", || {
            message =
                self.sidecar().and_then(|one| Some(one.kinds.get(kind.as_str())?.nack.clone()?.message));
            message.is_some()
        });
        message.unwrap()
    }
}

pub fn resource<M: Message + Name>(kind: ResourceKind, name: &str, message: &M) -> Resource {
    let body = Any { type_url: M::type_url(), value: message.encode_to_vec() };
    Resource { kind, name: name.to_owned(), body }
}
