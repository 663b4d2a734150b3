/** Opus packets as nodes send them, put into an Ogg stream, which browsers can decode (RFC 7845, RFC 3533). */

const SAMPLES_OF_PACKET = 960; // 20 ms at 48 kHz, by which Ogg counts
const FIRST = 2, LAST = 4;

/** An Ogg stream of a payload of packets, each behind its length in two bytes, little-endian. */
export function oggOfPackets(payload) {
  const packets = [...packetsOf(payload)];
  const stream = [page(HEAD, 0, 0, FIRST), page(TAGS, 0, 1, 0)];
  packets.forEach((packet, index) => {
    const isLast = index === packets.length - 1;
    stream.push(page(packet, (index + 1) * SAMPLES_OF_PACKET, index + 2, isLast ? LAST : 0));
  });
  return new Blob(stream);
}

function* packetsOf(payload) {
  for (let at = 0; at + 2 <= payload.length; ) {
    const size = payload[at] | (payload[at + 1] << 8);
    if (!size || at + 2 + size > payload.length) return;
    yield payload.subarray(at + 2, at + 2 + size);
    at += 2 + size;
  }
}

/** A page that holds one packet. */
function page(packet, position, number, kind) {
  const lacing = Math.floor(packet.length / 255) + 1;
  const bytes = new Uint8Array(27 + lacing + packet.length);
  const view = new DataView(bytes.buffer);
  bytes.set([0x4f, 0x67, 0x67, 0x53, 0, kind]);
  view.setBigUint64(6, BigInt(position), true);
  view.setUint32(14, 1, true);
  view.setUint32(18, number, true);
  bytes[26] = lacing;
  bytes.fill(255, 27, 26 + lacing);
  bytes[26 + lacing] = packet.length % 255;
  bytes.set(packet, 27 + lacing);
  view.setUint32(22, checksum(bytes), true);
  return bytes;
}

/** The CRC of RFC 3533. */
function checksum(bytes) {
  let sum = 0;
  for (const byte of bytes) sum = ((sum << 8) ^ TABLE[(sum >>> 24) ^ byte]) >>> 0;
  return sum;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let sum = byte << 24;
  for (let bit = 0; bit < 8; bit++) sum = sum & 0x80000000 ? (sum << 1) ^ 0x04c11db7 : sum << 1;
  return sum >>> 0;
});

// Version 1, one channel, no samples to skip, recorded at 16 kHz, no gain.
const HEAD = Uint8Array.from([..."OpusHead"].map(code).concat(1, 1, 0, 0, 0x80, 0x3e, 0, 0, 0, 0, 0));
const TAGS = Uint8Array.from([..."OpusTags"].map(code).concat(0, 0, 0, 0, 0, 0, 0, 0));

function code(letter) { return letter.charCodeAt(0); }
