// What was changed, and back again: { past, present, future }. Pure. An entry is { label, transcript }.

export const begin = (transcript) => ({ past: [], present: transcript, future: [] });

/** With another transcript; nothing if it is the same. `label`: what was done, in words. */
export function changed(history, transcript, label) {
  if (transcript === history.present) return history;
  return { past: [...history.past, { label, transcript: history.present }], present: transcript, future: [] };
}

export function undone({ past, present, future }) {
  const last = past.at(-1);
  if (!last) return { past, present, future };
  return { past: past.slice(0, -1), present: last.transcript, future: [{ label: last.label, transcript: present }, ...future] };
}

export function redone({ past, present, future }) {
  const [next, ...rest] = future;
  if (!next) return { past, present, future };
  return { past: [...past, { label: next.label, transcript: present }], present: next.transcript, future: rest };
}
