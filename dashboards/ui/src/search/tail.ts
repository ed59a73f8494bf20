// Live lines: a ring of the newest, a pause that buffers, and an honest count of what was not shown.

import { batch, signal } from '@preact/signals';
import { type ApiError, RequestError, explain, streamEvents, streamHits } from '../api/client';
import type { LogHit } from '../api/types';

/** Lines kept on the page; older ones leave at the top. */
export const RING = 10_000;
/** Lines fetched when the stream opens. */
const CATCH_UP = 200;
const MAX_BODY = 2048;
const RETRY_MS = [500, 1000, 2000, 5000] as const;

/** A place in the tail where lines are missing. */
export interface Gap {
  gap: number;
  reason: string;
  id: string;
}

export type TailRow = LogHit | Gap;

export const isGap = (row: TailRow): row is Gap => 'gap' in row;

export const tailRows = signal<TailRow[]>([]);
export const tailState = signal<'off' | 'connecting' | 'live' | 'retrying'>('off');
export const paused = signal(false);
/** Lines that arrived during the pause. */
export const buffered = signal(0);
export const notShown = signal(0);
export const tailFailure = signal<ApiError | null>(null);

let waiting: TailRow[] = [];
/** Found by the last catch-up; the stream may bring them once more. */
let recent = new Set<string>();
let abort: AbortController | null = null;
let gaps = 0;

/** Appends to a ring: the newest `RING` rows stay.  */
export function appendRing<T>(ring: readonly T[], fresh: readonly T[], size = RING): T[] {
  const over = ring.length + fresh.length - size;
  if (over <= 0) return ring.concat(fresh);
  if (fresh.length >= size) return fresh.slice(fresh.length - size);
  return ring.slice(over).concat(fresh);
}

/** Starts to follow. The newest lines before the start are fetched once the stream is open, so that none fall in between. */
export function startTail(query: string): void {
  stopTail();
  const mine = new AbortController();
  abort = mine;
  waiting = [];
  recent = new Set();
  batch(() => {
    tailRows.value = [];
    tailState.value = 'connecting';
    paused.value = false;
    buffered.value = 0;
    notShown.value = 0;
    tailFailure.value = null;
  });
  void follow(query, mine.signal);
}

function onHits(data: string): void {
  const { hits, dropped, missed_batches, reason } = JSON.parse(data) as {
    hits: LogHit[];
    dropped: number;
    missed_batches: number;
    reason: string | null;
  };
  const rows: TailRow[] = hits.filter((h) => !recent.has(h.id));
  if (dropped > 0) rows.unshift(gapRow(dropped, reason ?? 'more came than a tail shows'));
  // how many lines those batches held is not known
  else if (missed_batches > 0) rows.unshift(gapRow(0, reason ?? 'some lines came too fast and are not shown'));
  add(rows);
}

function gapRow(lines: number, reason: string): Gap {
  gaps += 1;
  notShown.value += lines;
  return { gap: lines, reason, id: `gap-${gaps}` };
}

function add(rows: TailRow[]): void {
  if (rows.length === 0) return;
  if (paused.value) {
    waiting = appendRing(waiting, rows);
    buffered.value += rows.filter((r) => !isGap(r)).length;
  } else {
    tailRows.value = appendRing(tailRows.value, rows);
  }
}

/** The lines just before the stream opened; after a lost connection, those that came meanwhile. */
async function catchUp(query: string, mine: AbortSignal): Promise<void> {
  const there = new Set([...tailRows.value, ...waiting].map((r) => r.id));
  const last = [...tailRows.value, ...waiting].findLast((r): r is LogHit => !isGap(r));
  const found: LogHit[] = [];
  try {
    const { next_cursor } = await streamHits<LogHit>(
      { q: query, start: last?.time_unix_nano ?? '-15m', limit: CATCH_UP, max_body: MAX_BODY }, mine, (hits) => { found.push(...hits); },
    );
    // Those that the stream itself brought in the meantime.
    for (const r of [...tailRows.value, ...waiting]) there.add(r.id);
    const rows: TailRow[] = found.filter((h) => !there.has(h.id)).reverse();
    recent = new Set(found.map((h) => h.id));
    if (last) {
      if (next_cursor) rows.unshift({ gap: 0, reason: 'more came while the connection was lost', id: `gap-${gaps++}` });
      add(rows);
    } else {
      tailRows.value = appendRing(rows, tailRows.value);
    }
  } catch (error) {
    const told = explain(error);
    if (told && !mine.aborted) tailFailure.value = told;
  }
}

async function follow(query: string, mine: AbortSignal): Promise<void> {
  for (let attempt = 0; !mine.aborted; attempt++) {
    try {
      await streamEvents('tail', { q: query, table: 'logs' }, mine, () => {
        attempt = 0;
        batch(() => {
          tailState.value = 'live';
          tailFailure.value = null;
        });
        void catchUp(query, mine);
      }, ({ event, data }) => {
        if (event === 'hits' && !mine.aborted) onHits(data);
      });
    } catch (error) {
      const told = explain(error);
      if (mine.aborted || !told) return;
      tailFailure.value = told;
      // A refused query stays refused; a lost connection comes back.
      if (error instanceof RequestError && told.status >= 400 && told.status < 500 && told.status !== 429) {
        tailState.value = 'off';
        return;
      }
    }
    if (mine.aborted) return;
    tailState.value = 'retrying';
    await new Promise((done) => setTimeout(done, RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)]));
  }
}

export function stopTail(): void {
  abort?.abort();
  abort = null;
  waiting = [];
  tailState.value = 'off';
}

export function pause(): void {
  paused.value = true;
}

/** Shows what came during the pause and follows again. */
export function resume(): void {
  batch(() => {
    tailRows.value = appendRing(tailRows.value, waiting);
    waiting = [];
    buffered.value = 0;
    paused.value = false;
  });
}
