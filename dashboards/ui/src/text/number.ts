// Numbers as people read them: units always shown, at most three significant digits.

const grouped = new Intl.NumberFormat('en-US');

/** `8,301` */
export const count = (n: number): string => grouped.format(n);

/** `1 line`, `8,301 lines` */
export const plural = (n: number, one: string, many = `${one}s`): string => `${count(n)} ${n === 1 ? one : many}`;

function three(n: number): string {
  if (n === 0) return '0';
  // as it will be rounded: 99.97 is 100, not 100.0
  if (n >= 99.95) return String(Math.round(n));
  const digits = n >= 9.995 ? 1 : 2;
  return n.toFixed(digits);
}

/** A duration given in nanoseconds: `850 ns`, `24.1 ms`, `6.04 s`, `2 min 5 s`. */
export function duration(nanos: number): string {
  if (!Number.isFinite(nanos)) return '–';
  if (nanos < 0) return `-${duration(-nanos)}`;
  if (nanos === 0) return '0 s';
  if (nanos < 1e3) return `${Math.round(nanos)} ns`;
  if (nanos < 999.5e3) return `${three(nanos / 1e3)} µs`;
  if (nanos < 999.5e6) return `${three(nanos / 1e6)} ms`;
  if (nanos < 120e9) return `${three(nanos / 1e9)} s`;
  const seconds = Math.round(nanos / 1e9);
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

/** A mark of a time axis: as a duration, without needless zeros: `250 ms`, `2.5 s`, `1 min 30 s`, `6 h`, `2 d 12 h`. */
export function axisLabel(nanos: number): string {
  if (nanos < 60e9) return duration(nanos).replace(/\.(\d*?)0+ /, (_, kept: string) => (kept ? `.${kept} ` : ' '));
  let seconds = Math.round(nanos / 1e9);
  const parts: string[] = [];
  for (const [size, unit] of [[86_400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']] as const) {
    const n = Math.floor(seconds / size);
    seconds -= n * size;
    if (n) parts.push(`${n} ${unit}`);
  }
  return parts.join(' ');
}

const BYTES = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** `1.20 GB` */
export function bytes(n: number): string {
  let unit = 0;
  let size = n;
  while (size >= 999.5 && unit < BYTES.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? Math.round(size) : three(size)} ${BYTES[unit]}`;
}

/** A value of a rule: at most three digits after the first, no needless zeros. */
export function measure(n: number | string | null): string {
  if (n === null) return '–';
  const value = Number(n);
  if (!Number.isFinite(value)) return String(n);
  if (Number.isInteger(value)) return count(value);
  return String(Number(value.toPrecision(3)));
}
