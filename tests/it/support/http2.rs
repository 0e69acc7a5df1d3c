//! Tunnels through the proxy that are streams of HTTP/2, as sockets.

use super::Connection;
use bytes::Bytes;
use h2::{RecvStream, SendStream, client, ext::Protocol};
use http::{Method, Request};
use std::{net::SocketAddr, sync::mpsc, thread};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    runtime::Builder,
};

/// Opens a tunnel by CONNECT (RFC 9113 §8.5), or by extended CONNECT with a protocol (RFC 8441 §4): what is inside, and the
/// status.
pub fn tunnel_by_http2(
    proxy: SocketAddr,
    authority: &str,
    protocol: Option<&'static str>,
) -> (Connection, u16) {
    let uri = match protocol {
        None => authority.to_owned(),
        Some(_) => format!("https://{authority}/"),
    };
    let mut request = Request::builder().method(Method::CONNECT).uri(uri).body(()).unwrap();
    if let Some(protocol) = protocol {
        request.extensions_mut().insert(Protocol::from_static(protocol));
    }
    let (answers, answer) = mpsc::channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let near = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (mut requests, connection) =
                client::handshake(TcpStream::connect(proxy).await.unwrap()).await.unwrap();
            tokio::spawn(connection);
            let (response, up) = requests.send_request(request, false).unwrap();
            let response = response.await.unwrap();
            answers.send((near.local_addr().unwrap(), response.status().as_u16())).unwrap();
            let (socket, _) = near.accept().await.unwrap();
            let (reader, mut writer) = socket.into_split();
            tokio::spawn(send(reader, up));
            receive(response.into_body(), &mut writer).await;
        });
    });
    let (near, status) = answer.recv().unwrap();
    (Connection::open(near), status)
}

async fn send(mut socket: OwnedReadHalf, mut stream: SendStream<Bytes>) {
    let mut block = vec![0; 16 << 10];
    while let Ok(count @ 1..) = socket.read(&mut block).await {
        if stream.send_data(Bytes::copy_from_slice(&block[..count]), false).is_err() {
            return;
        }
    }
}

/// Until the stream ends or is reset.
async fn receive(mut stream: RecvStream, socket: &mut (impl AsyncWriteExt + Unpin)) {
    while let Some(Ok(bytes)) = stream.data().await {
        let _ = stream.flow_control().release_capacity(bytes.len());
        if socket.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
