//! HTTP/2 as bytes (RFC 9113 §4), right or wrong.

const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;
/// The window of a connection that nobody has changed.
const WINDOW: u32 = 65_535;
/// The largest window there is.
pub const ENDLESS: u32 = (1 << 31) - 1;

/// How a client begins that takes so many bytes unread, each stream and all together.
pub fn begin(window: u32) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let setting = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &window.to_be_bytes()].concat();
    bytes.extend(frame(SETTINGS, 0, 0, &setting));
    bytes.extend(frame(WINDOW_UPDATE, 0, 0, &(window - WINDOW).to_be_bytes()));
    bytes
}

/// A whole request without a body.
pub fn request(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field that no table has or gets (RFC 7541 §6.2.2).
fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text");
        [&[length], text.as_bytes()].concat()
    };
    [vec![0], text(name), text(value)].concat()
}
