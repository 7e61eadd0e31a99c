// A zip of a few texts: stored, not compressed. Source: PKWARE's APPNOTE.TXT 6.3.
const TABLE = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});
const UTF8_NAMES = 0x0800;
const VERSION = 20;

function checksum(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** Bytes of [value, size] pairs, least significant byte first. */
function record(...fields) {
  const bytes = [];
  for (const [value, size] of fields) {
    for (let place = 0; place < size; place++) bytes.push((value / 2 ** (8 * place)) & 0xff);
  }
  return Uint8Array.from(bytes);
}

function dosTime(date) {
  const time = (date.getHours() << 11) | (date.getMinutes() << 5) | (date.getSeconds() >> 1);
  return [time, ((date.getFullYear() - 1980) << 9) | ((date.getMonth() + 1) << 5) | date.getDate()];
}

/** What the local header and the directory have in common. */
function facts(name, bytes, [time, day]) {
  return [
    [VERSION, 2], [UTF8_NAMES, 2], [0, 2], [time, 2], [day, 2], [checksum(bytes), 4],
    [bytes.length, 4], [bytes.length, 4], [name.length, 2], [0, 2],
  ];
}

/** "a.srt", "a (2).srt", ...: each name once, whatever the case. */
export function distinct(names) {
  const taken = new Set();
  return names.map((name) => {
    const [, base, extension] = /^(.*?)(\.[^.]*)?$/s.exec(name);
    let free = name;
    for (let number = 2; taken.has(free.toLowerCase()); number++) free = `${base} (${number})${extension ?? ""}`;
    taken.add(free.toLowerCase());
    return free;
  });
}

/** A Blob of files: [{ name, blob }]. All together below 4 GB. */
export async function zip(files, date = new Date()) {
  const parts = [], directory = [], at = dosTime(date);
  const names = distinct(files.map(({ name }) => name));
  let offset = 0;
  for (const [index, { blob }] of files.entries()) {
    const name = new TextEncoder().encode(names[index]);
    const bytes = new Uint8Array(await blob.arrayBuffer());
    const header = record([0x04034b50, 4], ...facts(name, bytes, at));
    directory.push(record([0x02014b50, 4], [VERSION, 2], ...facts(name, bytes, at), [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]), name);
    parts.push(header, name, bytes);
    offset += header.length + name.length + bytes.length;
  }
  const length = directory.reduce((sum, part) => sum + part.length, 0);
  const end = record([0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2], [length, 4], [offset, 4], [0, 2]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
