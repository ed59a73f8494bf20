// The log search: query, pills, histogram, facets, list and panel. What it shows is in the URL; what it found is in results.ts.

import { useSignal } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import type { ApiError } from '../api/client';
import type { LogHit } from '../api/types';
import { Icon, Key } from '../parts/icons';
import { Splitter } from '../parts/Splitter';
import { Empty, Failure, Loading, Notes, Problems } from '../parts/States';
import type { ListHandle } from '../parts/VirtualList';
import { useKeys } from '../shell/keys';
import { RangeControls, shareLink } from '../shell/Shell';
import { copy } from '../state/notices';
import { prefs, setPrefs } from '../state/prefs';
import { go, href, patch, place, stateOf } from '../state/router';
import { DEFAULT_COLUMNS, type SearchState } from '../state/url';
import { bytes, count, plural } from '../text/number';
import { type Pill, compose, splitAt, togglePill } from '../text/query';
import { date, millisOf, resolve } from '../text/time';
import { Facets } from './Facets';
import type { FieldActions } from './FieldRow';
import { Histogram } from './Histogram';
import { LogList, flatIndex } from './LogList';
import { Pills } from './Pills';
import { enter, failure, leave, loadMore, refreshCounts, rememberScroll, run, runKey, running, shown, sideFailure } from './results';
import { RowPanel } from './RowPanel';
import { type TailRow, buffered, isGap, notShown, pause, paused, resume, startTail, stopTail, tailFailure, tailRows, tailState } from './tail';

/** How often histogram and facets follow a live tail. */
const LIVE_COUNTS_MS = 5000;

export function SearchPage(): JSX.Element {
  const s = stateOf('search');
  const entry = place.value.key;
  const draft = useSignal(s.q);
  const active = useSignal(s.sel?.id ?? '');
  const list = useRef<ListHandle | null>(null);
  const input = useRef<HTMLInputElement>(null);
  const key = runKey(s);
  const { query, offset } = compose(s.q, s.f);

  useLayoutEffect(() => {
    if (draft.peek() !== s.q) draft.value = s.q;
  }, [s.q]);
  useLayoutEffect(() => {
    const top = enter(entry, s, list.current?.scrollTop() ?? 0);
    if (top !== null) requestAnimationFrame(() => list.current?.scrollTo(top));
  }, [entry, key]);
  useEffect(() => leave, []);

  useEffect(() => {
    if (!s.live) return;
    startTail(query);
    const counts = setInterval(() => refreshCounts(stateOf('search')), LIVE_COUNTS_MS);
    return () => {
      stopTail();
      clearInterval(counts);
    };
  }, [s.live, query]);

  const results = shown.value;
  const rows: readonly TailRow[] = s.live ? tailRows.value : (results?.hits.value ?? []);

  // A live list stays at its end unless it is paused.
  useLayoutEffect(() => {
    if (s.live && !paused.value) list.current?.scrollToEnd();
  }, [s.live, tailRows.value, paused.value]);

  const submit = (): void => {
    if (draft.value === s.q) run(entry, s);
    else patch('search', { q: draft.value, sel: null, open: [] }, 'push');
  };
  const setPills = (f: Pill[]): void => patch('search', { f, sel: null, open: [] }, 'push');
  const zoom = (from: number, to: number): void => patch('search', { from: String(from), to: String(to), live: false }, 'push');
  const close = (): void => patch('search', { sel: null }, 'replace');
  const select = (hit: LogHit): void => {
    active.value = hit.id;
    patch('search', { sel: { id: hit.id, time: hit.time_unix_nano } }, s.sel ? 'replace' : 'push');
  };
  const reveal = (id: string): void => {
    const at = flatIndex(rows, s.open, id);
    if (at >= 0) list.current?.reveal(at);
  };
  const move = (step: number): void => {
    if (rows.length === 0) return;
    const at = rows.findIndex((r) => r.id === active.value);
    let to = at < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.max(0, Math.min(rows.length - 1, at + step));
    while (rows[to] && isGap(rows[to]!) && rows[to + Math.sign(step)]) to += Math.sign(step);
    const row = rows[to];
    if (!row || isGap(row)) return;
    if (s.live && !paused.value && to < rows.length - 1) pause();
    active.value = row.id;
    if (s.sel) patch('search', { sel: { id: row.id, time: row.time_unix_nano } }, 'replace');
    reveal(row.id);
  };
  const activeHit = (): LogHit | null => {
    const row = rows.find((r) => r.id === active.value);
    return row && !isGap(row) ? row : null;
  };
  const openTrace = (): void => {
    const hit = activeHit();
    if (hit?.trace_id) go(href('trace', { id: hit.trace_id, span: hit.span_id ?? '', log: hit.id }));
  };
  const unfold = (): void => {
    const hit = activeHit();
    if (hit) patch('search', { open: s.open.includes(hit.id) ? s.open.filter((o) => o !== hit.id) : [...s.open, hit.id] }, 'replace');
  };
  const toggleLive = (): void => patch('search', { live: !s.live }, 'push');
  const back = (): void => {
    if (s.sel) {
      close();
      list.current?.focus();
    } else if (s.live && paused.value) resume();
    else if (s.open.length) patch('search', { open: [] }, 'replace');
    else active.value = '';
  };
  const actions: FieldActions = {
    filter: (sign, field, value) => setPills(togglePill(s.f, { sign, field, value, off: false })),
    column: (field) => {
      const there = s.cols.some((c) => c.name === field);
      const cols = there ? s.cols.filter((c) => c.name !== field) : [...s.cols.filter((c) => c.name !== 'body'), { name: field, width: null }, ...s.cols.filter((c) => c.name === 'body')];
      patch('search', { cols: cols.length ? cols : [...DEFAULT_COLUMNS] }, 'push');
    },
    shown: s.cols.map((c) => c.name),
  };
  const filterFocused = (sign: '+' | '-'): void => {
    const el = document.activeElement?.closest<HTMLElement>('[data-field]');
    if (el?.dataset.field) actions.filter(sign, el.dataset.field, el.dataset.value ?? '');
  };
  const enterRow = (): void => {
    const hit = activeHit();
    if (hit) select(hit);
  };
  useKeys('Logs', [
    { key: '/', does: 'Query', run: () => input.current?.select() },
    { key: 'j', does: 'Next line', run: () => move(1) },
    { key: 'k', does: 'Previous line', run: () => move(-1) },
    { key: 'Enter', does: 'Open the line in the panel', run: enterRow },
    { key: 'x', does: 'Unfold the line in place', run: unfold },
    { key: 'o', does: 'Open the trace of the line', run: openTrace },
    { key: 'l', does: 'Live tail on or off', run: toggleLive },
    { key: 'f', does: 'Only the focused field’s value', run: () => filterFocused('+') },
    { key: 'F', does: 'Not the focused field’s value', run: () => filterFocused('-') },
    { key: 'Escape', does: 'Back out one level', run: back },
  ]);

  const onListKey = (e: KeyboardEvent): void => {
    const page = list.current?.pageSize() ?? 20;
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -rows.length, End: rows.length }[e.key];
    if (e.key === 'End' && s.live) resume();
    if (!step || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault();
    move(step);
  };

  const coverage = results?.coverage.value ?? null;
  const now = Date.now();
  const dated = date(coverage ? millisOf(coverage.start_unix_nano) : resolve(s.from, now), s.tz) !== date(coverage ? millisOf(coverage.end_unix_nano) : resolve(s.to, now), s.tz);
  const known = s.sel ? ((rows.find((r) => r.id === s.sel?.id) as LogHit | undefined) ?? null) : null;
  const custom = s.cols.map((c) => c.name).join(',') !== 'service,body';
  const error = s.live ? (tailFailure.value ?? failure.value) : failure.value;

  return (
    <div class="search">
      <h1 class="sr-only">Logs</h1>
      <form class="bar" role="search" onSubmit={(e) => { e.preventDefault(); submit(); }}>
        <input
          ref={input}
          class="input query"
          type="text"
          aria-label="Query"
          aria-invalid={error?.position !== null && error !== null}
          placeholder='Search, as in: service:payment severity>=WARN "gateway timeout"'
          autocomplete="off"
          autocapitalize="off"
          spellcheck={false}
          value={draft.value}
          onInput={(e) => { draft.value = e.currentTarget.value; }}
          onKeyDown={(e) => { if (e.key === 'Escape') { e.stopPropagation(); list.current?.focus(); } }}
        />
        <RangeControls />
        <button type="submit" class="button primary">Run <Icon name="enter" /></button>
        <button type="button" class={`button live${s.live ? ' on' : ''}`} aria-pressed={s.live} onClick={toggleLive}><i class="live-dot" />Live <Key k="l" /></button>
      </form>
      <div class="sub-bar">
        <Pills pills={s.f} onChange={setPills} />
        <CoverageLine state={s} />
        <Problems coverage={coverage} />
        <Notes coverage={coverage} />
      </div>
      {error ? <QueryFailure error={error} q={s.q} offset={offset} onRetry={() => run(entry, s)} /> : null}
      {!error && sideFailure.value ? <Failure error={sideFailure.value} onRetry={() => refreshCounts(s)} /> : null}
      <Histogram data={results?.histogram.value ?? null} tz={s.tz} onZoom={zoom} />
      <div class="search-body">
        <Facets data={results?.facets.value ?? null} pills={s.f} onToggle={(p) => setPills(togglePill(s.f, p))} />
        <div class={`list-box${running.value && results ? ' stale' : ''}`} aria-busy={running.value}>
          {custom ? <ColumnHead state={s} /> : null}
          {rows.length > 0 ? (
            <LogList
              label={s.live ? 'Live lines, newest last' : 'Lines, newest first'}
              rows={rows}
              columns={s.cols}
              open={s.open}
              active={active.value}
              selected={s.sel?.id ?? ''}
              tz={s.tz}
              dated={dated}
              handle={list}
              onPick={select}
              onKeyDown={onListKey}
              onScroll={(top, end) => {
                if (!s.live) rememberScroll(entry, top);
                else if (!end && !paused.value) pause();
                else if (end && paused.value && buffered.value === 0) resume();
              }}
              onNearEnd={s.live ? undefined : loadMore}
              footer={s.live ? null : <ListEnd />}
            />
          ) : <NoRows state={s} draftDiffers={draft.value !== s.q} />}
          {s.live ? <TailBar /> : null}
        </div>
        {s.sel ? (
          <>
            <Splitter label="Width of the panel" value={prefs.value.panelWidth} min={260} max={900} direction={-1} onChange={(panelWidth) => setPrefs({ panelWidth })} />
            <div class="panel-box" style={{ '--panel': `${prefs.value.panelWidth}px` }}>
              <RowPanel record={s.sel} known={known} actions={actions} onClose={back} onShare={() => void copy(shareLink(), 'the link')} />
            </div>
          </>
        ) : null}
      </div>
    </div>
  );
}

function CoverageLine({ state }: { state: SearchState }): JSX.Element {
  const results = shown.value;
  const coverage = results?.coverage.value;
  if (!results || !coverage) return <span class="coverage" role="status">{running.value ? 'Searching…' : ''}</span>;
  const histogram = results.histogram.value;
  const exact = histogram && histogram.coverage.complete && coverage.complete;
  const total = histogram ? histogram.total : Math.max(coverage.rows_matched_at_least, results.hits.value.length);
  const read: string[] = [];
  if (coverage.blocks_total > 0) read.push(`${bytes(coverage.bytes_read)} in ${count(coverage.blocks_read)} of ${plural(coverage.blocks_total, 'block')}`);
  if (coverage.head_rows > 0) read.push(`${plural(coverage.head_rows, 'fresh row')}`);
  const ms = results.tookMs.value;
  return (
    <span class="coverage" role="status">
      <b>{exact ? '' : 'at least '}{plural(total, 'line')}</b>
      {read.length ? ` · read ${read.join(' and ')}` : ''} · {ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms
      {state.f.some((p) => p.off) ? ' · some filters are off' : ''}
    </span>
  );
}

function QueryFailure({ error, q, offset, onRetry }: { error: ApiError; q: string; offset: number; onRetry(): void }): JSX.Element {
  const parts = error.position === null ? null : splitAt(q, error.position, offset);
  return (
    <Failure error={error} {...(error.position === null ? { onRetry } : {})}>
      {parts ? <p class="mono query-mark">{parts.before}<mark>{parts.at || '␣'}</mark>{parts.after}</p> : null}
      {error.position !== null && !parts ? <p>The mistake is in a filter below the query.</p> : null}
    </Failure>
  );
}

function NoRows({ state, draftDiffers }: { state: SearchState; draftDiffers: boolean }): JSX.Element {
  const results = shown.value;
  if (state.live) return <Empty title={tailState.value === 'live' ? 'Waiting for lines…' : tailState.value === 'off' ? 'The tail is stopped.' : 'Connecting…'}><p class="muted">New lines that match appear here as they arrive.</p></Empty>;
  if (!results && !failure.value) return <Loading rows={24} label="Searching" />;
  if (!results || !results.settled.value) return <div class="list-space" />;
  const coverage = results.coverage.value;
  return (
    <Empty title="No lines match in this range.">
      <ul>
        {state.q || state.f.length ? <li>Remove a filter or a word of the query{draftDiffers ? ', or run what you typed' : ''}.</li> : null}
        <li><button type="button" class="link-button" onClick={() => patch('search', { from: '-24h', to: 'now' }, 'push')}>Search the last 24 hours</button></li>
        {coverage && coverage.blocks_total === 0 && coverage.head_rows === 0 ? <li>Nothing at all is stored for this range: check that a sender is pointed at this server.</li> : null}
      </ul>
    </Empty>
  );
}

function ListEnd(): JSX.Element | null {
  const results = shown.value;
  if (!results || !results.settled.value) return null;
  const more = results.more.value;
  if (more === 'loading') return <div class="list-end" role="status">Loading older lines…</div>;
  if (more !== 'idle') {
    return <div class="list-end" role="alert">{more.message} <button type="button" class="link-button" onClick={() => { results.more.value = 'idle'; loadMore(); }}>Try again</button></div>;
  }
  return results.cursor.value ? null : <div class="list-end">{plural(results.hits.value.length, 'line')}, all of this range.</div>;
}

function TailBar(): JSX.Element {
  const state = tailState.value;
  const text = state === 'connecting' ? 'connecting' : state === 'retrying' ? 'connection lost, trying again' : state === 'off' ? 'stopped' : paused.value ? 'paused' : 'live';
  return (
    <div class={`tail-bar ${paused.value ? 'paused' : state}`}>
      <span role="status"><i class="live-dot" />{text}</span>
      <span class="muted">{notShown.value > 0 ? `${plural(notShown.value, 'line')} not shown: more came than a tail shows` : ''}</span>
      {paused.value
        ? <button type="button" class="button primary" onClick={resume}>{buffered.value > 0 ? `Show ${plural(buffered.value, 'new line')}` : 'Follow'}</button>
        : <button type="button" class="button" onClick={pause} disabled={state !== 'live'}>Pause</button>}
    </div>
  );
}

function ColumnHead({ state }: { state: SearchState }): JSX.Element {
  const set = (cols: SearchState['cols']): void => patch('search', { cols: cols.length ? cols : [...DEFAULT_COLUMNS] }, 'replace');
  const shift = (i: number, by: number): void => {
    const cols = [...state.cols];
    const [moved] = cols.splice(i, 1);
    if (moved) cols.splice(i + by, 0, moved);
    set(cols);
  };
  return (
    <div class="column-head" aria-label="Columns" role="group">
      {state.cols.map((c, i) => {
        const width = c.width ?? (c.name === 'service' ? 80 : 130);
        return (
          <span key={c.name} class="column" style={c.name === 'body' ? { flex: '1 1 0' } : { flexBasis: `${width}px` }}>
            <span class="column-name" title={c.name}>{c.name}</span>
            {i > 0 ? <button type="button" class="icon-button" aria-label={`Move ${c.name} to the left`} onClick={() => shift(i, -1)}><Icon name="right" /></button> : null}
            <button type="button" class="icon-button" aria-label={`Remove the column ${c.name}`} onClick={() => set(state.cols.filter((k) => k !== c))}><Icon name="close" /></button>
            {c.name === 'body' ? null : (
              <Splitter label={`Width of ${c.name}`} value={width} min={40} max={800} direction={1} onChange={(w) => set(state.cols.map((k) => (k.name === c.name ? { ...k, width: w } : k)))} />
            )}
          </span>
        );
      })}
    </div>
  );
}
