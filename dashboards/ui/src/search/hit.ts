// Reading one log record: a column's value, and the lines of its body when it is unfolded.

import type { LogHit } from '../api/types';

/** Longest piece of a body that is put into one row of the list. */
export const ROW_CHARS = 600;
/** Rows an unfolded body may take; the panel shows the rest. */
export const MAX_FOLD_ROWS = 60;

/** The value of a column: a well-known name, else an attribute, a resource attribute, or a field of a JSON body. */
export function columnValue(hit: LogHit, name: string): string {
  switch (name) {
    case 'service': return hit.service_name ?? '';
    case 'severity': return hit.severity;
    case 'body': return hit.body;
    case 'trace_id': return hit.trace_id ?? '';
    case 'span_id': return hit.span_id ?? '';
    case 'log_group': return hit.log_group ?? '';
    case 'log_stream': return hit.log_stream ?? '';
    default: {
      const value = hit.attributes[name] ?? hit.resource_attributes[name] ?? hit.fields[name];
      if (value === undefined || value === null) return '';
      return Array.isArray(value) ? value.join(', ') : String(value);
    }
  }
}

export type Json = null | boolean | string | number | Exact | Json[] | { [key: string]: Json };

/** A number that JavaScript cannot hold without changing it, in the spelling of the record. */
export class Exact {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

/** The JSON object or array a body holds; null if it is only text. */
export function jsonOf(body: string): Json[] | { [key: string]: Json } | null {
  const start = body.trimStart().charAt(0);
  if (start !== '{' && start !== '[') return null;
  // The third argument (the source text) is newer than TypeScript's declarations.
  const reviver = (_: string, value: unknown, context?: { source?: string }): unknown =>
    typeof value === 'number' && context?.source !== undefined && !Number.isSafeInteger(value) && String(value) !== context.source ? new Exact(context.source) : value;
  try {
    const value = JSON.parse(body, reviver as (key: string, value: unknown) => unknown) as Json;
    return typeof value === 'object' && value !== null && !(value instanceof Exact) ? value : null;
  } catch {
    return null;
  }
}

function pretty(value: Json, indent: string): string {
  if (value instanceof Exact) return value.text;
  if (Array.isArray(value)) {
    if (value.length === 0) return '[]';
    return `[\n${value.map((v) => `${indent}  ${pretty(v, `${indent}  `)}`).join(',\n')}\n${indent}]`;
  }
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value);
    if (entries.length === 0) return '{}';
    return `{\n${entries.map(([k, v]) => `${indent}  ${JSON.stringify(k)}: ${pretty(v, `${indent}  `)}`).join(',\n')}\n${indent}}`;
  }
  return JSON.stringify(value);
}

/** A body cut into lines of at most `width` characters; JSON is laid out first. */
export function foldLines(body: string, width: number): string[] {
  const json = jsonOf(body);
  const text = json ? pretty(json, '') : body;
  const lines: string[] = [];
  const room = Math.max(20, width);
  for (const line of text.split('\n')) {
    const chars = line.trimEnd();
    for (let i = 0; i === 0 || i < chars.length; i += room) {
      if (lines.length === MAX_FOLD_ROWS) return [...lines, '… the panel (Enter) shows the rest'];
      lines.push(chars.slice(i, i + room));
    }
  }
  return lines;
}
