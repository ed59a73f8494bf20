// One alert: what, since when, value against threshold, the lines it counted, and who was told.

import type { JSX } from 'preact';
import type { Alert } from '../api/types';
import { Empty, Failure, Loading } from '../parts/States';
import { useKeys } from '../shell/keys';
import { RangeControls } from '../shell/Shell';
import { common, go, href, stateOf } from '../state/router';
import { full, inOtherZone, millisOf, zoneLabel } from '../text/time';
import { AlertCard } from './AlertCard';
import { EVERY_MS } from './AlertsPage';
import { usePolled } from './polling';

const COLUMNS = ['Time', 'Result', 'Channel', 'To', 'Subject'] as const;

export function AlertPage(): JSX.Element {
  const { id } = stateOf('alert');
  if (!id) return <><h1 class="sr-only">Alert</h1><Empty title="This link names no alert."><p><a href={href('alerts', {})}>All alerts</a></p></Empty></>;
  return <One key={id} id={id} />;
}

function One({ id }: { id: string }): JSX.Element {
  const polled = usePolled<Alert>(`alerts/${encodeURIComponent(id)}`, EVERY_MS);
  const alert = polled.data.value;
  const error = polled.error.value;
  useKeys('Alert', [
    { key: 'Escape', does: 'All alerts', run: () => go(href('alerts', {})) },
    { key: 'r', does: 'Ask again now', run: polled.now },
  ]);
  return (
    <div class="alerts">
      <div class="bar">
        <a class="button" href={href('alerts', {})}>All alerts</a>
        <span class="bar-gap" />
        <RangeControls range={false} />
      </div>
      {!alert ? <h1 class="sr-only">Alert</h1> : null}
      {error?.status === 404 ? (
        <Empty title="This alert is not known any more.">
          <p class="muted">Its rule was changed or removed, or it ended so long ago that its record has expired.</p>
        </Empty>
      ) : error ? <Failure error={error} onRetry={polled.now} /> : null}
      {!alert && !error ? <Loading rows={6} label="Loading the alert" /> : null}
      {alert ? (
        <div class="alert-list">
          <AlertCard alert={alert} whole />
          <section aria-label="Notices">
            <h2>Notices <span class="muted">{alert.notifications.length}</span></h2>
            {alert.notifications.length === 0 ? <p class="muted">Nobody has been told.</p> : (
              <div class="table-box" tabIndex={0} role="region" aria-label="Table of notices">
                <table class="rules deliveries" role="table">
                  <thead role="rowgroup"><tr role="row">{COLUMNS.map((c) => <th key={c} scope="col" role="columnheader">{c}</th>)}</tr></thead>
                  <tbody role="rowgroup">{[...alert.notifications].sort((a, b) => (a.time_unix_nano < b.time_unix_nano ? 1 : -1)).map((n) => <NoticeRow key={n.time_unix_nano + n.target} n={n} />)}</tbody>
                </table>
              </div>
            )}
          </section>
        </div>
      ) : null}
    </div>
  );
}

// On a phone a notice is a block of lines, no row; the roles keep it a table to those who hear it.
function NoticeRow({ n }: { n: Alert['notifications'][number] }): JSX.Element {
  const { tz } = common.value;
  const at = millisOf(n.time_unix_nano);
  return (
    <tr role="row">
      <td role="cell" class="mono" data-column="Time"><time title={inOtherZone(at, tz)}>{full(at, tz).slice(0, -4)} {zoneLabel(tz, at)}</time></td>
      <td role="cell" data-column="Result"><span class={`delivery ${n.status}`}><b>{n.status}</b>{n.attempts > 1 ? `, ${n.attempts} attempts` : ''}{n.error ? <span class="wrong">: {n.error}</span> : null}</span></td>
      <td role="cell" data-column="Channel">{n.channel}</td>
      <td role="cell" class="mono" data-column="To">{n.target}</td>
      <td role="cell" data-column="Subject">{n.subject}</td>
    </tr>
  );
}
