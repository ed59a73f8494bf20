import { expect, openSearch, test, tracedLine } from './page';

test('search → line → trace with its logs → back restores it all', async ({ page }) => {
  const trace = await tracedLine(page);
  await openSearch(page, `?q=trace_id:${trace}`);
  await expect(page.getByRole('status').filter({ hasText: /\d line/ })).toBeVisible();

  await page.getByRole('grid').getByRole('row').first().click();
  const panel = page.getByRole('region', { name: 'Record' });
  await expect(panel).toContainText(trace);
  await expect(page).toHaveURL(/sel=/);
  const selected = page.url();
  const firstLine = await page.getByRole('grid').getByRole('row').first().innerText();

  await page.keyboard.press('o');
  await expect(page).toHaveURL(/\/trace\?id=/);
  const rows = page.getByRole('treegrid').getByRole('row');
  await expect(rows.first()).toBeVisible();
  await expect(page.getByRole('treegrid').locator('.span-row.log').first()).toBeVisible();

  await page.goBack();
  await expect(page).toHaveURL(selected);
  await expect(page.getByRole('region', { name: 'Record' })).toContainText(trace);
  expect(await page.getByRole('grid').getByRole('row').first().innerText()).toBe(firstLine);
});

test('a facet becomes a pill, the pill flips, goes off and is removed, and back undoes each', async ({ page }) => {
  await openSearch(page);
  await page.getByRole('complementary', { name: 'Fields' }).getByRole('button', { name: /^frontend/ }).click();
  await expect(page).toHaveURL(/f=%2Bservice:frontend/);
  const pill = page.getByRole('button', { name: /^Filter service = frontend/ });
  await expect(pill).toBeVisible();
  await expect(page.locator('.log-row .service').first()).toHaveText('frontend');

  await pill.click();
  await page.getByRole('button', { name: 'Exclude', exact: true }).last().click();
  await expect(page).toHaveURL(/f=-service:frontend/);
  await expect(page.locator('.log-row .service').first()).not.toHaveText('frontend');

  await page.getByRole('button', { name: /^Filter NOT service = frontend/ }).click();
  await page.getByRole('button', { name: 'Switch off' }).click();
  await expect(page).toHaveURL(/f=~-service:frontend/);
  await page.getByRole('button', { name: /^Remove the filter/ }).click();
  await expect(page).not.toHaveURL(/f=/);
  await page.goBack();
  await page.goBack();
  await expect(page).toHaveURL(/f=-service:frontend/);
  await expect(page.locator('.log-row .service').first()).not.toHaveText('frontend');
});

test('the keyboard alone: query, rows, panel, unfold, back out', async ({ page }) => {
  await openSearch(page);
  await page.keyboard.press('/');
  await page.keyboard.type('service:frontend');
  await page.keyboard.press('Enter');
  await expect(page).toHaveURL(/q=service:frontend/);
  await expect(page.locator('.list-box')).toHaveAttribute('aria-busy', 'false');
  await expect(page.locator('.log-row .service').first()).toHaveText('frontend');
  await page.keyboard.press('Escape');
  await page.keyboard.press('j');
  await page.keyboard.press('j');
  await expect(page.locator('.log-row.active')).toHaveCount(1);
  await page.keyboard.press('x');
  await expect(page.locator('.log-row.fold').first()).toBeVisible();
  await page.keyboard.press('Enter');
  await expect(page.getByRole('region', { name: 'Record' })).toBeVisible();
  await page.keyboard.press('Escape');
  await expect(page.getByRole('region', { name: 'Record' })).toHaveCount(0);
  await page.keyboard.press('Escape');
  await expect(page.locator('.log-row.fold')).toHaveCount(0);
  await page.keyboard.press('?');
  await expect(page.getByRole('dialog', { name: 'Keyboard' })).toBeVisible();
});

test('the histogram zooms by keyboard, and back returns', async ({ page }) => {
  await openSearch(page);
  const slider = page.getByRole('slider');
  await slider.focus();
  await page.keyboard.press('End');
  await expect(slider).toHaveAttribute('aria-valuetext', /line/);
  await page.keyboard.press('Enter');
  await expect(page).toHaveURL(/from=\d{13}&to=\d{13}/);
  await page.goBack();
  await expect(page).not.toHaveURL(/from=/);
});

test('only the visible rows exist, and older lines load on scroll', async ({ page }) => {
  const grid = page.getByRole('grid');
  let before = 0;
  // a server that has just begun holds less than one page yet
  await expect(async () => {
    await openSearch(page, '?from=-24h');
    before = Number(await grid.getAttribute('aria-rowcount'));
    expect(before).toBeGreaterThanOrEqual(200);
  }).toPass({ timeout: 60_000 });
  await grid.evaluate((el) => { el.scrollTop = el.scrollHeight; });
  await expect.poll(async () => Number(await grid.getAttribute('aria-rowcount'))).toBeGreaterThan(before);
  expect(await page.locator('.log-row').count()).toBeLessThanOrEqual(80);
});

test('the live tail shows new lines, pauses on scroll up, and follows again', async ({ page }) => {
  await openSearch(page);
  await page.keyboard.press('l');
  await expect(page).toHaveURL(/live=1/);
  const grid = page.getByRole('grid');
  await expect(page.locator('.tail-bar')).toContainText('live');
  await expect(grid.getByRole('row').first()).toBeVisible();
  const before = Number(await grid.getAttribute('aria-rowcount'));
  await expect.poll(async () => Number(await grid.getAttribute('aria-rowcount')), { timeout: 30_000 }).toBeGreaterThan(before);
  // The newest line is in view.
  expect(await grid.evaluate((el) => el.scrollHeight - el.scrollTop - el.clientHeight)).toBeLessThan(30);

  await grid.hover();
  await page.mouse.wheel(0, -200);
  await expect(page.locator('.tail-bar')).toContainText('paused');
  const held = await grid.getAttribute('aria-rowcount');
  const show = page.getByRole('button', { name: /new lines?$/ });
  await expect(show).toBeVisible({ timeout: 30_000 });
  expect(await grid.getAttribute('aria-rowcount')).toBe(held);
  await show.click();
  await expect(page.locator('.tail-bar')).toContainText('live');
  await page.keyboard.press('l');
  await expect(page).not.toHaveURL(/live=1/);
});

test('times follow the zone, which is always named', async ({ page }) => {
  await openSearch(page);
  const at = page.locator('.log-row .at').first();
  const utc = await at.innerText();
  await page.keyboard.press('z');
  await expect(page).toHaveURL(/tz=Asia\/(Kolkata|Calcutta)/);
  await expect(page.getByRole('button', { name: /\+05:30/ })).toBeVisible();
  await expect(at).not.toHaveText(utc);
  await page.keyboard.press('z');
  await expect(page).not.toHaveURL(/tz=/);
});

test('the share button freezes the range', async ({ page }) => {
  await openSearch(page);
  await page.getByRole('button', { name: 'Copy a link with the range frozen' }).click();
  await expect(page).toHaveURL(/from=\d{13}&to=\d{13}/);
  await expect(page.getByText('Copied the link.')).toBeVisible();
});

test('a bad link shows a page and names what it left out', async ({ page }) => {
  await openSearch(page, '?from=bogus&colour=red');
  await expect(page.locator('.notice')).toContainText('from');
  await expect(page.locator('.notice')).toContainText('colour');
});

test('the palette opens a pasted trace ID', async ({ page }) => {
  const trace = await tracedLine(page);
  await openSearch(page);
  await page.keyboard.press('Control+k');
  const palette = page.getByRole('dialog');
  await expect(palette.getByRole('combobox')).toBeFocused();
  await page.keyboard.type(`1-${trace.slice(0, 8)}-${trace.slice(8)}`);
  await expect(palette.getByRole('option').first()).toContainText(/trace/i);
  await page.keyboard.press('Enter');
  await expect(page.getByRole('treegrid').getByRole('row').first()).toBeVisible();
});

test.describe('a refused query', () => {
  test.use({ allowed: [/status of 400/] });
  test('says what is wrong, where, and keeps the old lines', async ({ page }) => {
    await openSearch(page);
    await page.getByRole('textbox', { name: 'Query' }).fill('status:[500 TO');
    await page.keyboard.press('Enter');
    const failure = page.getByRole('alert');
    await expect(failure).toBeVisible();
    await expect(page.locator('.query-mark mark')).toHaveCount(1);
    await expect(page.getByRole('grid').getByRole('row').first()).toBeVisible();
    await expect(page.getByRole('textbox', { name: 'Query' })).toHaveAttribute('aria-invalid', 'true');
  });
});

test('nothing found says so and what to do', async ({ page }) => {
  await page.goto('ui/search?q=zzzqqqxxyy');
  await expect(page.getByRole('heading', { name: 'No lines match in this range.' })).toBeVisible();
});
