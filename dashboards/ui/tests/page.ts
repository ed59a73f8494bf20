// What every browser test shares: a page on which any console error, page error or content-policy report fails the test, and axe.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type Page, test as base, expect } from '@playwright/test';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

interface Fixtures {
  /** Console errors that a test expects, such as the browser's own line about a refused request. */
  allowed: RegExp[];
}

export const test = base.extend<Fixtures>({
  allowed: [[], { option: true }],
  page: async ({ page, allowed }, use) => {
    const wrong: string[] = [];
    page.on('console', (message) => {
      if (message.type() === 'error' && !allowed.some((a) => a.test(message.text()))) wrong.push(`console: ${message.text()}`);
    });
    page.on('pageerror', (error) => wrong.push(`page error: ${error.message}`));
    // A violation is told to the document before the console; both are caught.
    await page.addInitScript(() => {
      addEventListener('securitypolicyviolation', (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI}`));
    });
    await use(page);
    expect(wrong).toEqual([]);
  },
});

export { expect };

interface AxeResult {
  violations: { id: string; help: string; nodes: { target: string[]; failureSummary: string }[] }[];
}

/** Zero violations of WCAG 2.0 A/AA, 2.1 AA and 2.2 AA. */
export async function expectAccessible(page: Page, what: string): Promise<void> {
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() => (globalThis as unknown as { axe: { run(root: Document, options: unknown): Promise<AxeResult> } }).axe.run(document, {
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa'],
    resultTypes: ['violations'],
  }));
  const told = violations.flatMap((v) => v.nodes.slice(0, 4).map((n) => `${v.id}: ${n.target.join(' ')}\n    ${n.failureSummary.replaceAll('\n', '\n    ')}`));
  expect(told, `axe on ${what}`).toEqual([]);
}

/** Waits until the list of a search has lines. */
export async function openSearch(page: Page, query = ''): Promise<void> {
  await page.goto(`ui/search${query}`);
  await expect(page.getByRole('grid').getByRole('row').first()).toBeVisible();
}

/** Waits until the server has spans and logs that name each other, of a trace that has ended: late spans would move its rows. */
export async function tracedLine(page: Page): Promise<string> {
  let found = '';
  await expect.poll(async () => {
    const answer = await page.request.get('api/v1/search?q=trace_id:*&limit=200&end=-20s');
    const { hits } = (await answer.json()) as { hits: { trace_id: string | null; span_id: string | null }[] };
    for (const hit of hits.filter((h) => h.trace_id && h.span_id).slice(20, 40)) {
      const trace = await page.request.get(`api/v1/traces/${hit.trace_id}?format=columns`);
      if (!trace.ok()) continue;
      const { spans } = (await trace.json()) as { spans: { span_id: string[] } };
      if (spans.span_id.length > 2 && spans.span_id.includes(hit.span_id!)) {
        found = hit.trace_id!;
        return true;
      }
    }
    return false;
  }, { timeout: 60_000, message: 'no log line with a stored span yet' }).toBe(true);
  return found;
}
