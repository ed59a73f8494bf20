// The selected span: attributes, its logs, and the whole as JSON.

import { useSignal } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect } from 'preact/hooks';
import { type ApiError, explain, getJson } from '../api/client';
import type { SpanHit } from '../api/types';
import { Icon } from '../parts/icons';
import { Failure, Loading } from '../parts/States';
import { type FieldActions, FieldRow } from '../search/FieldRow';
import { Group } from '../search/RowPanel';
import { copy } from '../state/notices';
import { common, go, href } from '../state/router';
import type { TraceState } from '../state/url';
import { duration } from '../text/number';
import { letter, serviceClass, severityClass } from '../text/severity';
import { clock, full, inOtherZone, millisOf, nanosOf, zoneLabel } from '../text/time';
import { type Trace, logsOfSpan } from './model';

interface Props {
  trace: Trace;
  span: number;
  tab: TraceState['tab'];
  log: string;
  onTab(tab: TraceState['tab']): void;
  onClose(): void;
  onSelect(spanId: string): void;
}

/** A range around the trace, so that a link into the logs finds them whatever range is shown now. */
export function rangeAround(t: Trace): { from: string; to: string } {
  const start = millisOf(t.startNanos);
  return { from: String(start - 60_000), to: String(Math.ceil(start + t.duration / 1e6) + 60_000) };
}

export function SpanPanel({ trace: t, span: i, tab, log, onTab, onClose, onSelect }: Props): JSX.Element {
  const id = t.spanId[i]!;
  const loaded = useSignal<SpanHit | null>(null);
  const failed = useSignal<ApiError | null>(null);
  useEffect(() => {
    failed.value = null;
    const abort = new AbortController();
    const timer = setTimeout(() => {
      getJson<SpanHit>(`traces/${encodeURIComponent(t.id)}/spans/${encodeURIComponent(id)}`, {}, abort.signal).then(
        (s) => { loaded.value = s; },
        (error: unknown) => { failed.value = explain(error); },
      );
    }, 80);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [t.id, id]);
  const span = loaded.value?.span_id === id ? loaded.value : null;
  const service = t.services[t.service[i]!] ?? '';
  const { tz } = common.value;
  const startMs = millisOf(nanosPlus(t.startNanos, t.start[i]!));
  const logs = logsOfSpan(t, i);
  const self = t.self[i]!;
  const actions: FieldActions = {
    filter: (sign, field, value) => go(href('search', { ...rangeAround(t), f: [{ sign, field, value, off: false }] })),
    column: () => {},
    shown: [],
  };
  const TABS = [['attributes', 'Attributes'], ['logs', `Logs ${logs.length}`], ['json', 'JSON']] as const;
  return (
    <section class="panel" aria-label="Span">
      <header class={`panel-head ${serviceClass(service)}`}>
        <h2><i class="dot" /> {service || 'unknown'} <b>{t.name[i]}</b></h2>
        <button type="button" class="icon-button" aria-label="Close" title="Close (Esc)" onClick={onClose}><Icon name="close" /></button>
      </header>
      <div class="tabs" role="tablist" aria-label="Views of the span">
        {TABS.map(([name, title], k) => (
          <button
            key={name}
            type="button"
            role="tab"
            id={`span-tab-${name}`}
            aria-selected={tab === name}
            aria-controls="span-tab-panel"
            tabIndex={tab === name ? 0 : -1}
            onClick={() => onTab(name)}
            onKeyDown={(e) => {
              const step = e.key === 'ArrowRight' ? 1 : e.key === 'ArrowLeft' ? -1 : 0;
              if (!step) return;
              e.preventDefault();
              const next = TABS[(k + step + TABS.length) % TABS.length]!;
              onTab(next[0]);
              document.getElementById(`span-tab-${next[0]}`)?.focus();
            }}
          >{title}</button>
        ))}
      </div>
      <div role="tabpanel" id="span-tab-panel" aria-labelledby={`span-tab-${tab}`} tabIndex={0} class="tab-panel">
        {failed.value ? <Failure error={failed.value} /> : null}
        {tab === 'attributes' ? (
          <>
            <Group title="Span">
              {t.error[i] ? <p class="sev-error sev-line"><b class="letter">E</b> {span?.status_message || 'This span failed.'}</p> : null}
              <Plain name="duration" value={!t.inProgress[i] ? duration(t.length[i]!) : t.length[i]! > 0 ? `${duration(t.length[i]!)} so far` : 'in progress'} />
              {t.inProgress[i] && t.length[i] === 0 ? null : <Plain name="self time" value={`${duration(self)} · ${Math.round((self / Math.max(1, t.length[i]!)) * 100)} %`} />}
              <Plain name="start" value={`+${duration(t.start[i]!)} · ${full(startMs, tz)} ${zoneLabel(tz, startMs)}`} title={inOtherZone(startMs, tz)} />
              <Plain name="kind" value={t.kind[i]!} />
              <FieldRow name="span_id" field="span_id" value={id} actions={actions} />
              {span?.parent_span_id ? (
                <div class="field">
                  <span class="field-name">parent</span>
                  <span class="field-value">
                    {t.indexOf.has(span.parent_span_id) ? <button type="button" class="link-button" onClick={() => onSelect(span.parent_span_id!)}>{span.parent_span_id}</button> : `${span.parent_span_id} (not received)`}
                  </span>
                </div>
              ) : null}
            </Group>
            {!span && !failed.value ? <Loading rows={5} label="Loading the span" /> : null}
            {span ? <Maps span={span} actions={actions} trace={t} /> : null}
          </>
        ) : null}
        {tab === 'logs' ? (
          logs.length === 0 ? <p class="muted">This span wrote no logs that carry its ID.</p> : (
            <ol class="span-logs">
              {Array.from(logs, (l) => (
                <li key={t.logs.id[l]} class={`${severityClass(t.logs.severity[l]!)}${t.logs.id[l] === log ? ' chosen' : ''}`}>
                  <a href={href('search', { ...rangeAround(t), f: [], q: `trace:(trace_id:${t.id})`, sel: { id: t.logs.id[l]!, time: t.logs.nanos[l]! } })}>
                    <b class="letter" title={t.logs.severity[l]}>{letter(t.logs.severity[l]!)}</b> {clock(millisOf(t.logs.nanos[l]!), tz)}
                  </a>
                  <pre>{t.logs.body[l]}</pre>
                </li>
              ))}
            </ol>
          )
        ) : null}
        {tab === 'json' ? (span ? (
          <>
            <div class="row-end"><button type="button" class="button" onClick={() => void copy(JSON.stringify(span, null, 2), 'the span')}>Copy</button></div>
            <pre class="body-text">{JSON.stringify(span, null, 2)}</pre>
          </>
        ) : <Loading rows={8} label="Loading the span" />) : null}
      </div>
      <div class="buttons panel-foot">
        <a class="button" href={href('search', { ...rangeAround(t), f: [], q: `trace_id:${t.id} span_id:${id}` })}>Logs of span</a>
        <a class="button" href={href('search', { ...rangeAround(t), f: [], q: `trace:(trace_id:${t.id})` })}>Logs of trace</a>
      </div>
    </section>
  );
}

export function nanosPlus(nanos: string, offset: number): string {
  return nanos ? `${BigInt(nanos) + BigInt(Math.round(offset))}` : nanosOf(0);
}

function Plain({ name, value, title }: { name: string; value: string; title?: string }): JSX.Element {
  return <div class="field"><span class="field-name">{name}</span><span class="field-value" title={title}>{value}</span></div>;
}

function Maps({ span, actions, trace }: { span: SpanHit; actions: FieldActions; trace: Trace }): JSX.Element {
  const attributes = Object.entries(span.attributes);
  const resource = Object.entries(span.resource_attributes);
  return (
    <>
      {attributes.length ? <Group title="Attributes">{attributes.map(([k, v]) => <FieldRow key={k} name={k} field={k} value={v} actions={actions} />)}</Group> : null}
      {span.events.length ? (
        <Group title="Events">
          {span.events.map((e, k) => (
            <div key={k} class="event">
              <p><b>{e.name}</b> <span class="muted">+{duration(Number(BigInt(e.time_unix_nano) - BigInt(trace.startNanos)))}</span></p>
              {Object.entries(e.attributes).map(([n, v]) => <FieldRow key={n} name={n} field={null} value={v} actions={actions} />)}
            </div>
          ))}
        </Group>
      ) : null}
      {span.links.length ? (
        <Group title="Links">
          {span.links.map((l, k) => <FieldRow key={k} name="trace" field={null} value={l.trace_id} actions={actions} link={{ href: href('trace', { id: l.trace_id, span: l.span_id }), label: `span ${l.span_id}` }} />)}
        </Group>
      ) : null}
      {resource.length ? <Group title="Resource">{resource.map(([k, v]) => <FieldRow key={k} name={k} field={k} value={v} actions={actions} />)}</Group> : null}
    </>
  );
}
