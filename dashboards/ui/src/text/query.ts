// Filter pills and how they join the query a person typed.

/** One pill: `+service:payment`, `-path:/healthz`; a pill that is off stays in the page and in the link but not in the query. */
export interface Pill {
  sign: '+' | '-';
  field: string;
  value: string;
  off: boolean;
}

export const samePill = (a: Pill, b: Pill): boolean => a.field === b.field && a.value === b.value;

/** The spelling in a link: `~` marks a pill that is off; `:` inside a field name is escaped. */
export function pillText(p: Pill): string {
  return `${p.off ? '~' : ''}${p.sign}${p.field.replace(/[\\:]/g, '\\$&')}:${p.value}`;
}

export function parsePill(text: string): Pill | null {
  const off = text.startsWith('~');
  const rest = off ? text.slice(1) : text;
  // A plus sign written bare into a link arrives as a space.
  const sign = rest[0] === ' ' ? '+' : rest[0];
  if (sign !== '+' && sign !== '-') return null;
  let field = '';
  for (let i = 1; i < rest.length; i++) {
    const c = rest[i];
    if (c === '\\' && i + 1 < rest.length) {
      i += 1;
      field += rest[i];
    } else if (c === ':') {
      return field ? { sign, field, value: rest.slice(i + 1), off } : null;
    } else {
      field += c;
    }
  }
  return null;
}

/** Facets are asked for by column; the query language has shorter names for three of them. */
const QUERY_NAME: Record<string, string> = { service_name: 'service', aws_log_group: 'log_group', aws_log_stream: 'log_stream' };
export const queryField = (column: string): string => QUERY_NAME[column] ?? column;

/** One filter in the search language. The value is quoted, so that only `*` alone keeps a meaning: the field exists. */
export function pillQuery(p: Pill): string {
  const field = p.field.replace(/[\s:"()[\]{}\\<>=!*?]/g, '\\$&');
  const value = p.value === '*' ? '*' : `"${p.value.replace(/[\\"]/g, '\\$&')}"`;
  return `${p.sign === '-' ? 'NOT ' : ''}${field}:${value}`;
}

/** What is sent, and where in it the typed text begins (in characters), so that an error's position can be shown in the input. */
export function compose(q: string, pills: readonly Pill[]): { query: string; offset: number } {
  const active = pills.filter((p) => !p.off).map(pillQuery);
  const typed = q.trim();
  if (active.length === 0) return { query: q, offset: 0 };
  if (!typed) return { query: active.join(' AND '), offset: -1 };
  return { query: `(${q}) AND ${active.join(' AND ')}`, offset: 1 };
}

/** Splits the typed query at an error's position (counted in characters, not UTF-16 units); null when the position lies outside of it. */
export function splitAt(q: string, position: number, offset: number): { before: string; at: string; after: string } | null {
  if (offset < 0) return null;
  const chars = Array.from(q);
  const i = position - offset;
  if (i < 0 || i > chars.length) return null;
  return { before: chars.slice(0, i).join(''), at: chars[i] ?? '', after: chars.slice(i + 1).join('') };
}

/** Adds a pill, or flips the one with the same field and value, or removes it when it is there already with this sign. */
export function togglePill(pills: readonly Pill[], pill: Pill): Pill[] {
  const there = pills.find((p) => samePill(p, pill));
  if (!there) return [...pills, pill];
  if (there.sign === pill.sign && !there.off) return pills.filter((p) => p !== there);
  return pills.map((p) => (p === there ? pill : p));
}
