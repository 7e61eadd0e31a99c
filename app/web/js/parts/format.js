// Times and sizes as people read them.

/** "1:02:03" for 3723 seconds, "0:07" for 7. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds) || 0);
  const two = (value) => String(value).padStart(2, "0");
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** "30 s", "2 min" */
export const duration = (seconds) => (seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`);

/** "3.2 MB" */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let power = 0;
  for (; bytes >= 1000 && power < units.length - 1; power++) bytes /= 1000;
  return `${power && bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)} ${units[power]}`;
}

/** A file's name to show: without characters that turn what follows around, as in "exe.3pm". */
export const shownName = (name) => name.replace(/[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, "") || "Recording";

const STEPS = [["second", 60], ["minute", 60], ["hour", 24], ["day", 30], ["month", 12], ["year", Infinity]];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** "5 minutes ago" for a time in ISO 8601. */
export function ago(iso) {
  let amount = (Date.parse(iso) - Date.now()) / 1000;
  if (Number.isNaN(amount)) return "";
  for (const [unit, next] of STEPS) {
    if (Math.abs(amount) < next) return unit === "second" ? "just now" : relative.format(Math.round(amount), unit);
    amount /= next;
  }
  return "";
}
