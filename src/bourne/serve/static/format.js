// Numbers, sizes, times and values as people read them. Values of records keep all their digits.

const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** 12,345 */
export const count = (value) => (value === null || value === undefined ? "–" : whole.format(value));

/** 12.3K */
export const short = (value) =>
  value === null || value === undefined ? "–" : Math.abs(value) < 10_000 ? whole.format(Math.round(value)) : compact.format(value);

/** 0.4/s, 120/s, 1.2M/s */
export function rate(value) {
  if (value === null || value === undefined) return "–";
  return `${value > 0 && value < 10 ? value.toFixed(1) : short(value)}/s`;
}

/** 1.2 MB, as `bourne status` counts. */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** Microseconds of event time as DuckDB writes a TIMESTAMP: the log's own clock, no time zone. */
export function instant(us) {
  if (us === null || us === undefined) return "–";
  const date = new Date(us / 1000);
  if (Number.isNaN(date.getTime())) return String(us);
  return date.toISOString().replace("T", " ").replace(/(\.\d*?)0*Z$/, "$1").replace(/\.$/, "");
}

/** The same, without its date if that is today's. */
export function shortInstant(us) {
  const text = instant(us).replace(/\.\d+$/, "");
  const today = new Date().toISOString().slice(0, 10);
  return text.startsWith(today) ? text.slice(11) : text;
}

/** A span of microseconds in words. */
export function span(us) {
  const units = [["day", 86_400e6], ["hour", 3_600e6], ["minute", 60e6], ["second", 1e6]];
  const [name, size] = units.find(([, each]) => us >= each) ?? units[3];
  const number = Math.round((us / size) * 10) / 10;
  return `${number} ${name}${number === 1 ? "" : "s"}`;
}

/** The same for what may be shorter than a second: 40 ms, 3.2 seconds. */
export const brief = (us) => (us < 1e6 ? `${Math.round(us / 1000)} ms` : span(us));

/** A moment in microseconds as the time of day here; with its date, if that is not today's. */
export function moment(us) {
  const at = new Date(us / 1000);
  const day = at.toLocaleDateString([], { year: "numeric", month: "short", day: "numeric" });
  return at.toDateString() === new Date().toDateString() ? clock(us / 1000) : `${day}, ${clock(us / 1000)}`;
}

/** The time of day here, of a moment in milliseconds. */
export const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** "1 view", "3 views" */
export const many = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

const DIGITS = "\u0001";

/** Parse JSON so that numbers which JavaScript would change stay as they were written: as texts that `valueText` knows. */
export function parseExact(text) {
  return JSON.parse(
    text.replace(/"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g, (token) =>
      token[0] === '"' || String(Number(token)) === token ? token : `"\\u0001${token}"`,
    ),
  );
}

/** A value of a record as text, nested ones as JSON. NULL is for the caller to show. */
export function valueText(value) {
  if (typeof value === "string") return value.startsWith(DIGITS) ? value.slice(1) : value;
  if (typeof value !== "object" || value === null) return String(value);
  return nested(value);
}

function nested(value) {
  if (typeof value === "string") return value.startsWith(DIGITS) ? value.slice(1) : JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(nested).join(", ")}]`;
  if (typeof value === "object" && value !== null)
    return `{${Object.entries(value).map(([name, each]) => `${name}: ${nested(each)}`).join(", ")}}`;
  return String(value);
}

const NUMERIC = /^(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|REAL|DECIMAL.*)$/i;

/** Say whether a column's type is a number. */
export const isNumeric = (type) => NUMERIC.test(type);

/** Order two values of a column; NULL last. */
export function compareValues(left, right, type) {
  if (left === null || left === undefined) return right === null || right === undefined ? 0 : 1;
  if (right === null || right === undefined) return -1;
  const [a, b] = [valueText(left), valueText(right)];
  if (isNumeric(type)) {
    const difference = Number(a) - Number(b);
    if (difference) return difference;
    // Beyond 2^53 two numbers may be one to JavaScript: their digits tell.
    return /^-?\d+$/.test(a) && /^-?\d+$/.test(b) ? Number(BigInt(a) > BigInt(b)) - Number(BigInt(a) < BigInt(b)) : 0;
  }
  return a < b ? -1 : Number(a > b);
}
