// All alerts by state, worst first, and the rules behind them.

import type { JSX } from 'preact';
import type { Alert, Alerts } from '../api/types';
import { Empty, Failure, Loading } from '../parts/States';
import { useKeys } from '../shell/keys';
import { RangeControls } from '../shell/Shell';
import { href } from '../state/router';
import { plural } from '../text/number';
import { AlertCard } from './AlertCard';
import { worstFirst } from './order';
import { usePolled } from './polling';

export const EVERY_MS = 5000;

const ORDER = [
  ['firing', 'Firing'], ['pending', 'Pending'], ['resolved', 'Resolved'], ['inactive', 'OK'],
] as const;

export function AlertsPage(): JSX.Element {
  const polled = usePolled<Alerts>('alerts', EVERY_MS);
  const data = polled.data.value;
  useKeys('Alerts', [
    { key: 'j', does: 'Next alert', run: () => step(1) },
    { key: 'k', does: 'Previous alert', run: () => step(-1) },
    { key: 'r', does: 'Ask again now', run: polled.now },
  ]);
  const of = (state: Alert['state']): Alert[] => (data?.alerts ?? [])
    .filter((a) => a.state === state)
    .sort(worstFirst);
  const firing = of('firing').length;
  return (
    <div class="alerts">
      <div class="bar">
        <h1>Alerts</h1>
        <span class="coverage" role="status">{data ? `${firing ? `${plural(firing, 'alert')} firing` : 'Nothing is firing'} · ${plural(data.rules.length, 'rule')}` : ''}</span>
        <span class="bar-gap" />
        <RangeControls range={false} />
      </div>
      {polled.error.value ? <Failure error={polled.error.value} onRetry={polled.now}>{data ? <p>Below is the last answer; it may be out of date.</p> : null}</Failure> : null}
      {!data && !polled.error.value ? <Loading rows={6} label="Loading the alerts" /> : null}
      {data && data.alerts.length === 0 && data.rules.length === 0 ? (
        <Empty title="There are no alert rules.">
          <p>A rule is a YAML file in the folder <code>rules/</code>: a query, a condition, and whom to tell. <code>tracelake rules check</code> reads it before the server does.</p>
        </Empty>
      ) : null}
      {data ? (
        <div class="alert-list">
          {ORDER.map(([state, title]) => {
            const list = of(state);
            if (list.length === 0) return null;
            return (
              <section key={state} aria-label={title}>
                <h2>{title} <span class="muted">{list.length}</span></h2>
                {state === 'inactive' ? <Quiet alerts={list} /> : list.map((a) => <AlertCard key={a.id} alert={a} whole={false} />)}
              </section>
            );
          })}
          {data.rules.length ? <Rules data={data} /> : null}
        </div>
      ) : null}
    </div>
  );
}

/** Moves the focus from alert to alert. */
function step(by: 1 | -1): void {
  const links = [...document.querySelectorAll<HTMLElement>('.alert-title a')];
  const at = links.indexOf(document.activeElement as HTMLElement);
  links[Math.max(0, Math.min(links.length - 1, at + by))]?.focus();
}

function Quiet({ alerts }: { alerts: readonly Alert[] }): JSX.Element {
  return (
    <ul class="quiet">
      {alerts.map((a) => (
        <li key={a.id}><a href={href('alert', { id: a.id })}>{a.rule}{a.group_key ? ` · ${a.group_key}` : ''}</a> <span class="muted">{a.summary}</span></li>
      ))}
    </ul>
  );
}

function Rules({ data }: { data: Alerts }): JSX.Element {
  return (
    <section aria-label="Rules">
      <h2>Rules <span class="muted">{data.rules.length}</span></h2>
      <div class="table-box" tabIndex={0} role="region" aria-label="Table of rules">
        <table class="rules">
          <thead><tr><th scope="col">Rule</th><th scope="col">Type</th><th scope="col">Query</th><th scope="col">Window</th><th scope="col">Every</th></tr></thead>
          <tbody>
            {data.rules.map((r) => (
              <tr key={r.name}>
                <th scope="row">{r.name}{r.error ? <p class="wrong">{r.error}</p> : null}</th>
                <td>{r.type}</td>
                <td class="mono"><a href={href('search', { q: r.query, f: [] })}>{r.query || '(all lines)'}</a></td>
                <td>{r.interval}</td>
                <td>{r.every}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
