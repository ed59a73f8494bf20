// The signals over the URL: which page is shown, its state, and the two ways to change it (push and replace).

import { computed, signal } from '@preact/signals';
import { localZone } from '../text/time';
import { notice } from './notices';
import { type Common, PAGES, type PageName, type States, initialState, readState, spansLink, writeState } from './url';

interface Place {
  /** Null = no such page. */
  page: PageName | null;
  name: string;
  query: string;
  /** One per history entry; snapshots of results and scroll positions are kept under it. */
  key: string;
}

let keys = 0;
const newKey = (): string => `${Date.now().toString(36)}-${keys++}`;

function readPlace(): Place {
  const other = location.pathname.endsWith('/search') ? spansLink(location.search) : null;
  if (other !== null) history.replaceState(history.state, '', other);
  const name = location.pathname.split('/').at(-1) ?? '';
  const page = name === '' || name === 'index.html' ? 'search' : (PAGES.find((p) => p === name) ?? null);
  let key = (history.state as { key?: string } | null)?.key;
  if (!key) {
    key = newKey();
    history.replaceState({ key }, '');
  }
  return { page, name, query: location.search, key };
}

export const place = signal<Place>(readPlace());

const parsed = computed(() => {
  const { page, query } = place.value;
  return page ? { page, ...readState(page, query) } : null;
});

/** The state of the page that is shown. Call it only from that page. */
export function stateOf<P extends PageName>(page: P): States[P] {
  const now = parsed.value;
  return now && now.page === page ? (now.state as States[P]) : initialState(page);
}

/** Range, zone and pills of whatever page is shown. */
export const common = computed<Common>(() => parsed.value?.state ?? initialState('alerts'));

/** A relative link, so that any proxy prefix works. */
export function href<P extends PageName>(page: P, state: Partial<States[P]>): string {
  const { from, to, tz, f } = common.value;
  const query = writeState(page, { ...initialState(page), from, to, tz, f, ...state });
  return query ? `${page}?${query}` : page;
}

export function go(link: string, how: 'push' | 'replace' = 'push'): void {
  const target = new URL(link, location.href);
  if (how === 'push') {
    if (target.pathname + target.search === location.pathname + location.search) return;
    history.pushState({ key: newKey() }, '', target);
  } else {
    history.replaceState(history.state, '', target);
  }
  place.value = readPlace();
}

/** Changes the state of the shown page. Running, zooming, opening and navigating push; moving about replaces. */
export function patch<P extends PageName>(page: P, change: Partial<States[P]>, how: 'push' | 'replace'): void {
  if (place.value.page !== page) return;
  const query = writeState(page, { ...stateOf(page), ...change });
  go(query ? `${page}?${query}` : page, how);
}

/** Changes range, zone or pills of whatever page is shown. */
export function patchCommon(change: Partial<Common>, how: 'push' | 'replace'): void {
  const page = place.value.page;
  if (page) patch(page, change, how);
}

export function toggleZone(): void {
  const { tz } = common.value;
  const local = localZone();
  if (tz === 'utc' && local === 'utc') notice('This browser’s own zone is UTC.');
  else patchCommon({ tz: tz === 'utc' ? local : 'utc' }, 'replace');
}

function tellProblems(): void {
  const problems = parsed.peek()?.problems ?? [];
  if (problems.length) notice(`Left out of this link: ${problems.join('; ')}.`, 'warn');
}

/** Follows the browser's back and forward, and links inside the page. */
export function startRouter(): void {
  addEventListener('popstate', () => {
    place.value = readPlace();
    tellProblems();
  });
  addEventListener('click', (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element | null)?.closest?.('a');
    if (!link || link.target || link.hasAttribute('download') || link.origin !== location.origin) return;
    if (!PAGES.some((p) => link.pathname.endsWith(`/${p}`))) return;
    event.preventDefault();
    go(link.href);
  });
  tellProblems();
}
