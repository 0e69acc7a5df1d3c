//! HTTP/2 to the proxy: requests, and tunnels as sockets.

use super::{Connection, Reply};
use bytes::Bytes;
use h2::{RecvStream, SendStream, client, ext::Protocol};
use http::{Method, Request, Response};
use std::{net::SocketAddr, sync::mpsc, thread};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    runtime::Builder,
};

/// Opens a tunnel by CONNECT (RFC 9113 §8.5), or by extended CONNECT with a protocol (RFC 8441 §4): what is inside, and the
/// reply.
pub fn tunnel_by_http2(
    proxy: SocketAddr,
    authority: &str,
    protocol: Option<&'static str>,
) -> (Option<Connection>, Reply) {
    let uri = match protocol {
        None => authority.to_owned(),
        Some(_) => format!("https://{authority}/"),
    };
    let mut request = Request::builder().method(Method::CONNECT).uri(uri).body(()).unwrap();
    if let Some(protocol) = protocol {
        request.extensions_mut().insert(Protocol::from_static(protocol));
    }
    ask(proxy, request)
}

/// Asks for a URL, with these headers beside `:authority`.
pub fn request_by_http2(
    proxy: SocketAddr,
    method: &str,
    url: &str,
    headers: &[(&'static str, &str)],
) -> Reply {
    let mut request = Request::builder().method(method).uri(url).body(()).unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    ask(proxy, request).1
}

/// One request on a connection of its own: what is inside if it opens a tunnel, and the reply.
fn ask(proxy: SocketAddr, request: Request<()>) -> (Option<Connection>, Reply) {
    let (answers, answer) = mpsc::channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut requests, connection) =
                client::handshake(TcpStream::connect(proxy).await.unwrap()).await.unwrap();
            tokio::spawn(connection);
            let tunnel = request.method() == Method::CONNECT;
            let (response, up) = requests.send_request(request, !tunnel).unwrap();
            let response = response.await.unwrap();
            let mut reply = reply(&response);
            let down = response.into_body();
            if !tunnel || reply.code != 200 {
                let mut body = Vec::new();
                receive(down, &mut body).await;
                reply.body = String::from_utf8(body).unwrap();
                answers.send((None, reply)).unwrap();
                return;
            }
            let near = TcpListener::bind("127.0.0.1:0").await.unwrap();
            answers.send((Some(near.local_addr().unwrap()), reply)).unwrap();
            let (socket, _) = near.accept().await.unwrap();
            let (reader, mut writer) = socket.into_split();
            tokio::spawn(send(reader, up));
            receive(down, &mut writer).await;
        });
    });
    let (near, reply) = answer.recv().unwrap();
    (near.map(Connection::open), reply)
}

/// Without its body.
fn reply(response: &Response<RecvStream>) -> Reply {
    let code = response.status().as_u16();
    let mut head = format!("HTTP/2 {code}\r\n");
    for (name, value) in response.headers() {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    Reply { code, head, body: String::new() }
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
async fn receive(mut stream: RecvStream, to: &mut (impl AsyncWriteExt + Unpin)) {
    while let Some(Ok(bytes)) = stream.data().await {
        let _ = stream.flow_control().release_capacity(bytes.len());
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
