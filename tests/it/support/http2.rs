//! HTTP/2 to the proxy: requests, and tunnels as sockets.

use super::{Connection, soon};
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

/// Asks for a URL, with these headers beside `:authority`: the status and what was sent.
pub fn get_by_http2(proxy: SocketAddr, url: &str, headers: &[(&'static str, &str)]) -> (u16, String) {
    let mut request = Request::builder().uri(url).body(()).unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(soon(async {
        let socket = TcpStream::connect(proxy).await.unwrap();
        let (mut requests, connection) = client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        let (response, _) = requests.send_request(request, true).unwrap();
        let mut response = response.await.unwrap();
        let mut body = Vec::new();
        while let Some(Ok(bytes)) = response.body_mut().data().await {
            body.extend(bytes);
        }
        (response.status().as_u16(), String::from_utf8(body).unwrap())
    }))
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
