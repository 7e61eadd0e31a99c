// The color of a speaker: one of eight that color-blind people can tell apart; then the same with another line.
const NUM_TONES = 8;

/** Class names for a speaker's id. The name always stands beside the color. */
export function toneOf(id) {
  if (id === null) return "tone-none";
  const number = Number(id.match(/\d+$/)?.[0] ?? 1) - 1;
  return `tone-${number % NUM_TONES}${number >= NUM_TONES ? " again" : ""}`;
}

export const NOBODY = "No speaker";
export const nameOf = (transcript, id) => (id === null ? NOBODY : transcript.speakers[id]);
