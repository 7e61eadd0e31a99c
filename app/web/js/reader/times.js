// Which word is spoken at a time. Pure.

const HELD_S = 0.4; // a word stays lit in the pause after it, so that the light does not flicker

/** All words that have a time, sorted by it: found with a binary search. */
export function timesOf(segments) {
  const entries = [];
  segments.forEach((segment, s) => {
    const before = entries.length;
    segment.words.forEach(({ start, end }, w) => { if (start !== null) entries.push([start, end, s, w]); });
    if (entries.length === before) entries.push([segment.start, segment.end, s, -1]);
  });
  entries.sort((a, b) => a[0] - b[0]);
  return { starts: Float64Array.from(entries, ([start]) => start), entries };
}

/** { segment, word } at this time: numbers, word -1 where only the segment has a time; null in silence. */
export function placeAt({ starts, entries }, time) {
  const i = lastBefore(starts, time);
  if (i < 0) return null;
  const [, end, segment, word] = entries[i];
  return time < end + HELD_S ? { segment, word } : null;
}

/** The number of the last one that is not after `time`; -1 if all are. */
export function lastBefore(sorted, time) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
