// What every page has: the rail, the loading bar, notices, and the controls of the top bar.

import type { ComponentChildren, JSX } from 'preact';
import { busy } from '../api/client';
import { Icon, Key } from '../parts/icons';
import { copy, dismiss, notices } from '../state/notices';
import { theme, toggleTheme } from '../state/prefs';
import { common, go, href, patchCommon, place, toggleZone } from '../state/router';
import { isRelative, localZone, resolve, zoneLabel } from '../text/time';
import { Help, openHelp } from './Help';
import { useKeys } from './keys';
import { Palette, openPalette } from './Palette';
import { TimePicker, pickerOpen, shiftRange } from './TimePicker';

const RAIL = [
  { name: 'Logs', page: 'search', also: [] as string[], key: 'l' },
  { name: 'Traces', page: 'traces', also: ['trace'], key: 't' },
  { name: 'Alerts', page: 'alerts', also: ['alert'], key: 'a' },
] as const;

export const modKey = /Mac|iP(hone|ad)/.test(navigator.platform) ? '⌘K' : 'Ctrl K';

/** The link of this page with its range frozen, so that it shows the same tomorrow. */
export function shareLink(): string {
  const { from, to } = common.value;
  const now = Date.now();
  const url = new URL(location.href);
  if (isRelative(from) || isRelative(to)) {
    patchCommon({ from: String(resolve(from, now)), to: String(resolve(to, now)) }, 'replace');
    url.href = location.href;
  }
  return url.href;
}

export function Shell({ children }: { children: ComponentChildren }): JSX.Element {
  useKeys('Everywhere', [
    { key: 'mod+k', does: 'Palette: pages, trace IDs, actions', run: openPalette },
    { key: '?', does: 'This sheet', run: openHelp },
    ...RAIL.map((r) => ({ key: `g ${r.key}`, does: `Go to ${r.name}`, run: () => go(href(r.page, {})) })),
    { key: 't', does: 'Time range', run: () => { pickerOpen.value = !pickerOpen.value; } },
    { key: 'z', does: 'Switch between UTC and local time', run: toggleZone },
    { key: ',', does: 'Range back', run: () => shiftRange(-1) },
    { key: '.', does: 'Range forward', run: () => shiftRange(1) },
    { key: 'y', does: 'Copy a link with the range frozen', run: () => void copy(shareLink(), 'the link') },
    { key: 'd', does: 'Dark or light', run: toggleTheme },
  ]);
  const page = place.value.page ?? '';
  return (
    <div class="shell">
      <a class="skip" href="#main">Skip to the content</a>
      <div class={`loading-bar${busy.value > 0 ? ' on' : ''}`} role="progressbar" aria-label="Loading" aria-hidden={busy.value === 0} />
      <nav class="rail" aria-label="Pages">
        {RAIL.map((r) => (
          <a key={r.page} href={href(r.page, {})} class="rail-link" aria-current={page === r.page || (r.also as readonly string[]).includes(page) ? 'page' : undefined}>{r.name}</a>
        ))}
        <span class="rail-gap" />
        <button type="button" class="button rail-button" aria-label={`Switch to ${theme.value === 'dark' ? 'light' : 'dark'} theme`} onClick={toggleTheme}>
          <Icon name={theme.value === 'dark' ? 'light' : 'dark'} />
        </button>
        <button type="button" class="button rail-button rail-help" aria-label="Keyboard" onClick={openHelp}>?</button>
        <button type="button" class="button rail-button" aria-label="Command palette" onClick={openPalette}>{modKey}</button>
      </nav>
      <main id="main" class="main" tabIndex={-1}>{children}</main>
      <div class="notices" aria-live="polite">
        {notices.value.map((n) => (
          <div key={n.id} class={`notice ${n.kind}`}>
            <span>{n.text}</span>
            <button type="button" class="icon-button" aria-label="Close this message" onClick={() => dismiss(n.id)}><Icon name="close" /></button>
          </div>
        ))}
      </div>
      <Palette />
      <Help />
    </div>
  );
}

/** Range, zone and share: the right end of a page's top bar. */
export function RangeControls({ range = true }: { range?: boolean }): JSX.Element {
  const { tz } = common.value;
  const local = localZone();
  return (
    <>
      {range ? <TimePicker /> : null}
      <button type="button" class="button" onClick={toggleZone} aria-label={`Times are in ${zoneLabel(tz, Date.now())}; switch zone`} title={tz === 'utc' ? `Switch to ${local === 'utc' ? 'local time' : local}` : 'Switch to UTC'}>
        {zoneLabel(tz, Date.now())} <Key k="z" />
      </button>
      <button type="button" class="button square" aria-label="Copy a link with the range frozen" title="Copy a link with the range frozen (y)" onClick={() => void copy(shareLink(), 'the link')}>
        <Icon name="share" />
      </button>
    </>
  );
}
