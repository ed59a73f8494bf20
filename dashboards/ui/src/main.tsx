// The pages of tracelake. Reading order: state/url.ts (what a link means), state/router.ts, shell/Shell.tsx, then one folder a page.

import './look/tokens.css';
import './look/shell.css';
import './look/search.css';
import './look/trace.css';
import './look/alerts.css';
import { type JSX, render } from 'preact';
import { useEffect } from 'preact/hooks';
import { AlertPage } from './alerts/AlertPage';
import { AlertsPage } from './alerts/AlertsPage';
import { Empty } from './parts/States';
import { SearchPage } from './search/SearchPage';
import { startKeys } from './shell/keys';
import { Shell } from './shell/Shell';
import { startPrefs } from './state/prefs';
import { href, place, startRouter } from './state/router';
import { TracePage } from './trace/TracePage';
import { TracesPage } from './trace/TracesPage';

const TITLES = { search: 'Logs', traces: 'Traces', trace: 'Trace', alerts: 'Alerts', alert: 'Alert' } as const;

function Page(): JSX.Element {
  const { page, name } = place.value;
  useEffect(() => {
    document.title = `${page ? TITLES[page] : 'Not found'} · tracelake`;
  }, [page]);
  switch (page) {
    case 'search': return <SearchPage />;
    case 'traces': return <TracesPage />;
    case 'trace': return <TracePage />;
    case 'alerts': return <AlertsPage />;
    case 'alert': return <AlertPage />;
    default: return (
      <>
        <h1 class="sr-only">Not found</h1>
        <Empty title={`There is no page “${name}”.`}>
          <p><a href={href('search', {})}>Logs</a> · <a href={href('traces', {})}>Traces</a> · <a href={href('alerts', {})}>Alerts</a></p>
        </Empty>
      </>
    );
  }
}

startPrefs();
startRouter();
startKeys();
const root = document.getElementById('app');
if (root) render(<Shell><Page /></Shell>, root);
