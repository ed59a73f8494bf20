import { expect, test, tracedLine } from './page';

test('a trace: span panel, log rows, folding, zoom, all in the link', async ({ page }) => {
  const trace = await tracedLine(page);
  await page.goto(`ui/trace?id=${trace}`);
  const tree = page.getByRole('treegrid');
  const rows = tree.getByRole('row');
  await expect(rows.first()).toBeVisible();
  const all = Number(await tree.getAttribute('aria-rowcount'));

  await rows.first().click();
  const panel = page.getByRole('region', { name: 'Span' });
  await expect(panel).toContainText('span_id');
  await expect(panel.getByRole('heading', { name: 'Resource' })).toBeVisible();
  await panel.getByRole('tab', { name: 'JSON' }).click();
  await expect(panel).toContainText('"trace_id"');

  await page.keyboard.press('v');
  await page.keyboard.press('v');
  await expect(page).toHaveURL(/hide=logs/);
  await expect(page.locator('.span-row.log')).toHaveCount(0);
  await page.keyboard.press('v');
  await expect(page).not.toHaveURL(/hide=/);

  await rows.first().locator('.fold').click();
  await expect(page).toHaveURL(/shut=/);
  expect(Number(await tree.getAttribute('aria-rowcount'))).toBeLessThan(all);
  await page.reload();
  await expect(rows.first()).toBeVisible();
  expect(Number(await tree.getAttribute('aria-rowcount'))).toBeLessThan(all);
  await rows.first().locator('.fold').click();

  const map = (await page.getByRole('img', { name: /Overview/ }).boundingBox())!;
  await page.mouse.move(map.x + map.width * 0.2, map.y + 20);
  await page.mouse.down();
  await page.mouse.move(map.x + map.width * 0.6, map.y + 20, { steps: 4 });
  await page.mouse.up();
  await expect(page).toHaveURL(/zoom=\d+-\d+/);
  await page.keyboard.press('0');
  await expect(page).not.toHaveURL(/zoom=/);

  await page.getByRole('button', { name: /^Logs \d/ }).click();
  await expect(page).toHaveURL(/view=logs/);
  await expect(page.getByRole('grid', { name: /oldest first/ }).getByRole('row').first()).toBeVisible();
});

test('recent requests lead into a trace, and back keeps the list', async ({ page }) => {
  await tracedLine(page);
  await page.goto('ui/traces');
  const rows = page.getByRole('grid').getByRole('row');
  await expect(rows.first()).toBeVisible();
  await page.keyboard.press('j');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('treegrid').getByRole('row').first()).toBeVisible();
  await page.goBack();
  await expect(rows.first()).toBeVisible();
});

test('a trace is found by any of its spans, and spans of traces that began before the range under "All spans"', async ({ page }) => {
  const trace = await tracedLine(page);
  const answer = await page.request.get(`api/v1/traces/${trace}`);
  const { spans } = (await answer.json()) as { spans: { span_id: string; parent_span_id: string | null; start_time_unix_nano: string }[] };
  const below = spans.find((s) => s.parent_span_id)!;
  await page.goto(`ui/traces?q=span_id:${below.span_id}`);
  await expect(page.getByRole('grid').getByRole('row')).toHaveCount(1);

  // A range that begins with the span that started last: its trace began before.
  const late = spans.reduce((a, b) => (BigInt(b.start_time_unix_nano) > BigInt(a.start_time_unix_nano) ? b : a));
  const from = BigInt(late.start_time_unix_nano) / 1_000_000n;
  await page.goto(`ui/traces?q=span_id:${late.span_id}&from=${from}&to=${from + 60_000n}`);
  await expect(page.getByText('1 span of this range matches; its trace began before.')).toBeVisible();
  await page.locator('.empty').getByRole('button', { name: 'All spans' }).click();
  await expect(page).toHaveURL(/spans=all/);
  await expect(page.getByRole('grid').getByRole('row')).toHaveCount(1);
});

test('both spellings of an ID open the same trace', async ({ page }) => {
  const trace = await tracedLine(page);
  await page.goto(`ui/trace?id=1-${trace.slice(0, 8)}-${trace.slice(8)}`);
  await expect(page.getByRole('button', { name: `Copy the trace ID ${trace}` })).toBeVisible();
  await expect(page.getByRole('button', { name: `Copy the X-Ray trace ID 1-${trace.slice(0, 8)}-${trace.slice(8)}` })).toBeVisible();
});

test.describe('an unknown trace', () => {
  test.use({ allowed: [/status of 404/] });
  test('says what to do', async ({ page }) => {
    await page.goto('ui/trace?id=00000000000000000000000000000abc');
    await expect(page.getByRole('heading', { name: /^No trace/ })).toBeVisible();
    await expect(page.getByRole('button', { name: 'Look again' })).toBeVisible();
  });
});
