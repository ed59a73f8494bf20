// Everything about one record, beside the list.

import { useSignal } from '@preact/signals';
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useMemo } from 'preact/hooks';
import { type ApiError, explain, getJson } from '../api/client';
import type { LogHit } from '../api/types';
import { Icon, Key } from '../parts/icons';
import { Failure, Loading } from '../parts/States';
import { copy } from '../state/notices';
import { common, href } from '../state/router';
import type { RecordRef } from '../state/url';
import { count } from '../text/number';
import { serviceClass, severityClass } from '../text/severity';
import { full, inOtherZone, millisOf, zoneLabel } from '../text/time';
import { type FieldActions, FieldRow } from './FieldRow';
import { jsonOf } from './hit';
import { JsonTree } from './JsonTree';

/** A body longer than this is shown in part until asked for: a line of megabytes takes seconds to lay out. */
const BODY_CHARS = 20_000;

interface Props {
  record: RecordRef;
  /** The record as the list has it, if it does. */
  known: LogHit | null;
  actions: FieldActions;
  onClose(): void;
  onShare(): void;
}

export function RowPanel({ record, known, actions, onClose, onShare }: Props): JSX.Element {
  const loaded = useSignal<LogHit | null>(null);
  const failed = useSignal<ApiError | null>(null);
  const again = useSignal(0);
  const whole = known && !known.body_truncated ? known : loaded.value?.id === record.id ? loaded.value : null;
  const hit = whole ?? known;

  useEffect(() => {
    failed.value = null;
    if (known && !known.body_truncated) return;
    const abort = new AbortController();
    // Moving through the list quickly asks only for the record one stays on.
    const timer = setTimeout(() => {
      getJson<LogHit>(`records/${encodeURIComponent(record.id)}`, { time: record.time, table: 'logs' }, abort.signal).then(
        (h) => { loaded.value = h; },
        (error: unknown) => { failed.value = explain(error); },
      );
    }, known ? 120 : 0);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [record.id, known?.body_truncated, again.value]);

  return (
    <section class="panel" aria-label="Record">
      {hit ? <Record key={hit.id} hit={hit} whole={whole !== null} actions={actions} onClose={onClose} onShare={onShare} /> : null}
      {!hit && !failed.value ? <Loading rows={6} label="Loading the record" /> : null}
      {failed.value ? (
        <>
          {!hit ? <div class="row-end"><button type="button" class="icon-button" aria-label="Close" onClick={onClose}><Icon name="close" /></button></div> : null}
          <Failure error={failed.value} onRetry={() => { again.value += 1; }} />
        </>
      ) : null}
    </section>
  );
}

function Record({ hit, whole, actions, onClose, onShare }: { hit: LogHit; whole: boolean; actions: FieldActions; onClose(): void; onShare(): void }): JSX.Element {
  const { tz } = common.value;
  const at = millisOf(hit.time_unix_nano);
  const raw = useSignal(false);
  const json = useMemo(() => (whole ? jsonOf(hit.body) : null), [hit, whole]);
  const trace = hit.trace_id ? href('trace', { id: hit.trace_id, span: hit.span_id ?? '', log: hit.id }) : '';
  const attributes = Object.entries(hit.attributes);
  // What the record already says above is not repeated below.
  const resource = Object.entries(hit.resource_attributes);
  return (
    <>
      <header class="panel-head">
        <h2>
          <span class={`sev-word ${severityClass(hit.severity)}`}>{hit.severity === 'UNSET' ? 'NO SEVERITY' : hit.severity}</span>{' '}
          <time class="mono" dateTime={hit.time} title={inOtherZone(at, tz)}>{full(at, tz)} {zoneLabel(tz, at)}</time>
        </h2>
        <button type="button" class="icon-button" aria-label="Close" title="Close (Esc)" onClick={onClose}><Icon name="close" /></button>
      </header>
      <div class="buttons">
        {trace ? <a class="button" href={trace}>Trace <Key k="o" /></a> : null}
        <button type="button" class="button" onClick={onShare}>Copy link <Key k="y" /></button>
        <button type="button" class="button" onClick={() => void copy(hit.body, 'the body')} disabled={!whole}>Copy body</button>
        {json ? <button type="button" class="button" aria-pressed={raw.value} onClick={() => { raw.value = !raw.value; }}>Raw</button> : null}
      </div>
      {json && !raw.value ? <div class="body-tree"><JsonTree value={json} path="" depth={0} actions={actions} /></div> : <Body hit={hit} whole={whole} />}
      <Group title="Record">
        {hit.service_name ? (
          <div class={`service-line ${serviceClass(hit.service_name)}`}><FieldRow name="service" field="service" value={hit.service_name} actions={actions} /></div>
        ) : null}
        {hit.trace_id ? <FieldRow name="trace_id" field="trace_id" value={hit.trace_id} actions={actions} link={{ href: trace, label: hit.xray_trace_id ?? '' }} /> : null}
        {hit.xray_trace_id ? <FieldRow name="X-Ray trace" field={null} value={hit.xray_trace_id} actions={actions} /> : null}
        {hit.span_id ? <FieldRow name="span_id" field="span_id" value={hit.span_id} actions={actions} /> : null}
        {hit.log_group ? <FieldRow name="log_group" field="log_group" value={hit.log_group} actions={actions} /> : null}
        {hit.log_stream ? <FieldRow name="log_stream" field="log_stream" value={hit.log_stream} actions={actions} /> : null}
        {hit.severity_text ? <FieldRow name="severity text" field={null} value={hit.severity_text} actions={actions} /> : null}
        {hit.event_name ? <FieldRow name="event" field={null} value={hit.event_name} actions={actions} /> : null}
        {hit.scope_name ? <FieldRow name="scope" field={null} value={hit.scope_name} actions={actions} /> : null}
        {hit.observed_time ? <FieldRow name="observed" field={null} value={hit.observed_time} actions={actions} /> : null}
      </Group>
      {attributes.length ? <Group title="Attributes">{attributes.map(([k, v]) => <FieldRow key={k} name={k} field={k} value={v} actions={actions} />)}</Group> : null}
      {resource.length ? <Group title="Resource">{resource.map(([k, v]) => <FieldRow key={k} name={k} field={k} value={v} actions={actions} />)}</Group> : null}
    </>
  );
}

export function Group({ title, children }: { title: string; children: ComponentChildren }): JSX.Element {
  return <section class="field-group"><h3>{title}</h3>{children}</section>;
}

function Body({ hit, whole }: { hit: LogHit; whole: boolean }): JSX.Element {
  const all = useSignal(false);
  const cut = !all.value && hit.body.length > BODY_CHARS;
  return (
    <>
      <pre class="body-text" tabIndex={0} aria-label="Body">{cut ? hit.body.slice(0, BODY_CHARS) : hit.body}</pre>
      {!whole ? <p class="muted">Loading the rest of the body…</p> : null}
      {whole && cut ? <button type="button" class="link-button" onClick={() => { all.value = true; }}>show all {count(hit.body.length)} characters</button> : null}
    </>
  );
}
