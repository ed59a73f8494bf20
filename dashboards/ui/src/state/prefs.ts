// Taste, which is the only thing kept in the browser: theme, panel widths, whether letter keys are on.

import { effect, signal } from '@preact/signals';

interface Prefs {
  theme: 'system' | 'dark' | 'light';
  letterKeys: boolean;
  panelWidth: number;
  nameWidth: number;
}

const NAME = 'tracelake.taste';
const DEFAULTS: Prefs = { theme: 'system', letterKeys: true, panelWidth: 340, nameWidth: 380 };

function load(): Prefs {
  try {
    const kept = JSON.parse(localStorage.getItem(NAME) ?? '{}') as Partial<Prefs>;
    return { ...DEFAULTS, ...kept };
  } catch {
    return DEFAULTS;
  }
}

export const prefs = signal<Prefs>(load());

/** The theme in force; `system` is followed while it changes. */
const systemDark = matchMedia('(prefers-color-scheme: dark)');
export const theme = signal<'dark' | 'light'>('dark');

export function setPrefs(change: Partial<Prefs>): void {
  prefs.value = { ...prefs.value, ...change };
}

export function toggleTheme(): void {
  const next = theme.value === 'dark' ? 'light' : 'dark';
  setPrefs({ theme: next === (systemDark.matches ? 'dark' : 'light') ? 'system' : next });
}

export function startPrefs(): void {
  const apply = (): void => {
    const want = prefs.value.theme;
    theme.value = want === 'system' ? (systemDark.matches ? 'dark' : 'light') : want;
    document.documentElement.dataset.theme = theme.value;
  };
  systemDark.addEventListener('change', apply);
  effect(() => {
    apply();
    try {
      localStorage.setItem(NAME, JSON.stringify(prefs.value));
    } catch {
      // A browser that keeps nothing still works; the taste lasts as long as the page.
    }
  });
}
