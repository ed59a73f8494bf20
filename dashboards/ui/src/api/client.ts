// The one place that talks to the server: JSON, newline-delimited JSON and event streams, all cancelled by their AbortSignal
// (closing the connection cancels the server's work).

import { signal } from '@preact/signals';
import type { Coverage } from './types';

/** Pages are one level deep (`/ui/search`), so this is right behind any proxy prefix. */
const BASE = '../api/v1/';

/** How many requests are under way; the 2 px bar shows while it is above zero. */
export const busy = signal(0);

export interface ApiError {
  code: string;
  message: string;
  hint: string;
  /** Where in the sent query, in characters; null if the error is not about the query's text. */
  position: number | null;
  status: number;
}

/** A refused or failed request, in the server's own words. */
export class RequestError extends Error {
  readonly detail: ApiError;
  constructor(detail: ApiError) {
    super(detail.message);
    this.detail = detail;
  }
}

export type Params = Record<string, string | number | undefined>;

export function apiUrl(path: string, params: Params = {}): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value !== undefined && value !== '') query.set(name, String(value));
  const text = query.toString();
  return BASE + path + (text ? `?${text}` : '');
}

/** Turns anything thrown into what the page shows; null if the request was only cancelled. */
export function explain(error: unknown): ApiError | null {
  if (error instanceof RequestError) return error.detail;
  if (error instanceof DOMException && error.name === 'AbortError') return null;
  const message = error instanceof TypeError ? 'The server could not be reached.' : String(error instanceof Error ? error.message : error);
  return { code: 'unreachable', message, hint: 'Check that tracelake is running and that this page may reach it, then run again.', position: null, status: 0 };
}

async function refused(response: Response): Promise<RequestError> {
  const detail: ApiError = {
    code: 'http', message: `The server answered ${response.status} ${response.statusText}`.trim(), hint: '', position: null, status: response.status,
  };
  try {
    const body = (await response.json()) as { error?: Partial<ApiError> };
    if (body.error) Object.assign(detail, { ...body.error, position: body.error.position ?? null, hint: body.error.hint ?? '' });
  } catch {
    // Not our JSON (a proxy in between, perhaps): the status line is all there is to say.
  }
  return new RequestError(detail);
}

async function request(path: string, params: Params, accept: string, abort: AbortSignal): Promise<Response> {
  const response = await fetch(apiUrl(path, params), { signal: abort, headers: { accept } });
  if (!response.ok) throw await refused(response);
  return response;
}

export async function getJson<T>(path: string, params: Params, abort: AbortSignal): Promise<T> {
  busy.value += 1;
  try {
    return (await (await request(path, params, 'application/json', abort)).json()) as T;
  } finally {
    busy.value -= 1;
  }
}

export interface Trailer {
  next_cursor: string | null;
  coverage: Coverage;
  took_ms: number;
}

/** Reads a search as it streams: `onHits` is called with each piece, so that the first lines paint before the last arrive. */
export async function streamHits<T>(params: Params, abort: AbortSignal, onHits: (hits: T[]) => void): Promise<Trailer> {
  busy.value += 1;
  try {
    const response = await request('search', params, 'application/x-ndjson, application/json;q=0.5', abort);
    if (!response.headers.get('content-type')?.includes('ndjson')) {
      const whole = (await response.json()) as Trailer & { hits: T[] };
      onHits(whole.hits);
      return whole;
    }
    let trailer: Trailer | undefined;
    await eachLine(response, (lines) => {
      const hits: T[] = [];
      for (const line of lines) {
        if (!line) continue;
        const value = JSON.parse(line) as { trailer?: Trailer; error?: Partial<ApiError> };
        if (value.trailer) trailer = value.trailer;
        else if (value.error) {
          throw new RequestError({ code: 'failed', message: 'The search failed.', hint: '', position: null, status: 200, ...value.error });
        } else hits.push(value as T);
      }
      if (hits.length) onHits(hits);
    });
    if (!trailer) {
      throw new RequestError({ code: 'cut_off', message: 'The answer ended before it was complete.', hint: 'Some lines may be missing: run the query again.', position: null, status: 200 });
    }
    return trailer;
  } finally {
    busy.value -= 1;
  }
}

async function eachLine(response: Response, onLines: (lines: string[]) => void): Promise<void> {
  const reader = response.body?.getReader();
  if (!reader) return;
  const decoder = new TextDecoder();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    rest += decoder.decode(value, { stream: !done });
    const lines = rest.split('\n');
    rest = done ? '' : (lines.pop() ?? '');
    if (lines.length) onLines(lines);
    if (done) return;
  }
}

export interface StreamEvent {
  event: string;
  data: string;
}

/** Cuts server-sent events out of a stream's lines. */
export function eventReader(onEvent: (event: StreamEvent) => void): (lines: string[]) => void {
  let event = 'message';
  let data: string[] = [];
  return (lines) => {
    for (const raw of lines) {
      const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
      if (line === '') {
        if (data.length) onEvent({ event, data: data.join('\n') });
        event = 'message';
        data = [];
      } else if (!line.startsWith(':')) {
        const at = line.indexOf(':');
        const name = at < 0 ? line : line.slice(0, at);
        const value = at < 0 ? '' : line.slice(at + 1).replace(/^ /, '');
        if (name === 'event') event = value;
        else if (name === 'data') data.push(value);
      }
    }
  };
}

/** Follows an event stream until it ends or is aborted. `fetch` is used, not EventSource, because that one hides why a stream was refused. */
export async function streamEvents(path: string, params: Params, abort: AbortSignal, onOpen: () => void, onEvent: (event: StreamEvent) => void): Promise<void> {
  const response = await request(path, params, 'text/event-stream', abort);
  onOpen();
  await eachLine(response, eventReader(onEvent));
}
