// Numbers as people read them.

/** 3723.4 -> "1:02:03"; 65 -> "1:05". */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds || 0));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** 5242880 -> "5.2 MB". */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let number = bytes || 0;
  let unit = 0;
  while (number >= 1000 && unit < units.length - 1) {
    number /= 1000;
    unit += 1;
  }
  return `${unit && number < 100 ? number.toFixed(1) : Math.round(number)} ${units[unit]}`;
}

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const STEPS = [[60, "second"], [60, "minute"], [24, "hour"], [7, "day"], [Infinity, "week"]];

/** "2026-01-31T12:00:00Z" -> "5 minutes ago". */
export function ago(iso) {
  let value = (Date.now() - Date.parse(iso)) / 1000;
  if (Number.isNaN(value)) return "";
  for (const [length, unit] of STEPS) {
    if (value < length) return unit === "second" ? "just now" : relative.format(-Math.floor(value), unit);
    value /= length;
  }
  return "";
}
