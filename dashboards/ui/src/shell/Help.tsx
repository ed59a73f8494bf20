// The ? sheet: every key that works on this page.

import { signal } from '@preact/signals';
import type { JSX } from 'preact';
import { prefs, setPrefs } from '../state/prefs';
import { Dialog } from './Dialog';
import { groups } from './keys';

const open = signal(false);

export function openHelp(): void {
  open.value = true;
}

const shown = (key: string): string => key.replace('mod+k', /Mac/.test(navigator.platform) ? '⌘K' : 'Ctrl K').replace('Escape', 'Esc');

export function Help(): JSX.Element {
  return (
    <Dialog open={open} label="Keyboard" class="help">
      <h2>Keyboard</h2>
      <div class="help-groups">
        {[...groups.value].reverse().map((g) => (
          <section key={g.title}>
            <h3>{g.title}</h3>
            <dl>
              {g.actions.map((a) => (
                <div key={a.key}><dt><kbd>{shown(a.key)}</kbd></dt><dd>{a.does}</dd></div>
              ))}
            </dl>
          </section>
        ))}
      </div>
      <label class="check">
        <input type="checkbox" checked={prefs.value.letterKeys} onChange={(e) => setPrefs({ letterKeys: e.currentTarget.checked })} />
        Letter keys are on
      </label>
      <div class="row-end"><button type="button" class="button" onClick={() => { open.value = false; }}>Close</button></div>
    </Dialog>
  );
}
