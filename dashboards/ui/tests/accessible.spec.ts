import { expect, expectAccessible, openSearch, test, tracedLine } from './page';

// axe visits every node many times, which takes long on a busy machine.
test.describe.configure({ timeout: 240_000 });

for (const scheme of ['dark', 'light'] as const) {
  test.describe(scheme, () => {
    test.use({ colorScheme: scheme });

    test(`search, full and with its panel (${scheme})`, async ({ page }) => {
      await openSearch(page, '?f=%2Bservice:frontend&f=-severity:DEBUG&f=~-host:x');
      await expectAccessible(page, 'search');
      await page.keyboard.press('j');
      await page.keyboard.press('Enter');
      await expect(page.getByRole('region', { name: 'Record' }).getByRole('heading', { name: 'Record' })).toBeVisible();
      await page.keyboard.press('x');
      await expectAccessible(page, 'search with its panel');
    });

    test(`a selected line of each severity (${scheme})`, async ({ page }) => {
      for (const severity of ['ERROR', 'WARN', 'INFO', 'DEBUG', 'UNSET']) {
        await page.goto(`ui/search?q=severity:${severity}`);
        await expect(page.locator('.log-row, .empty h2').first()).toBeVisible();
        if (await page.locator('.log-row').count() === 0) continue;
        await page.keyboard.press('j');
        await page.keyboard.press('Enter');
        await expect(page.getByRole('region', { name: 'Record' })).toBeVisible();
        await expectAccessible(page, `a selected line of severity ${severity}`);
      }
    });

    test(`search, empty (${scheme})`, async ({ page }) => {
      await page.goto('ui/search?q=zzzqqqxxyy');
      await expect(page.getByRole('heading', { name: 'No lines match in this range.' })).toBeVisible();
      await expectAccessible(page, 'empty search');
    });

    test(`palette, keys and time picker (${scheme})`, async ({ page }) => {
      await openSearch(page);
      await page.keyboard.press('Control+k');
      await expect(page.getByRole('dialog')).toBeVisible();
      await expectAccessible(page, 'palette');
      await page.keyboard.press('Escape');
      // keys are the dialog's until it is gone
      await expect(page.getByRole('dialog')).toBeHidden();
      await page.keyboard.press('?');
      await expect(page.getByRole('dialog', { name: 'Keyboard' })).toBeVisible();
      await expectAccessible(page, 'keys');
      await page.keyboard.press('Escape');
      await expect(page.getByRole('dialog')).toBeHidden();
      const picker = page.getByRole('dialog', { name: 'Time range' });
      // on a busy machine the sheet is out of sight a moment before it gives the keys back
      await expect(async () => {
        if (!(await picker.isVisible())) await page.keyboard.press('t');
        await expect(picker).toBeVisible({ timeout: 2_000 });
      }).toPass();
      await expectAccessible(page, 'time picker');
    });

    test(`trace and traces (${scheme})`, async ({ page }) => {
      const trace = await tracedLine(page);
      await page.goto('ui/traces');
      await expect(page.getByRole('grid').getByRole('row').first()).toBeVisible();
      await expectAccessible(page, 'traces');
      await page.goto(`ui/trace?id=${trace}`);
      await page.getByRole('treegrid').getByRole('row').first().click();
      await expect(page.getByRole('region', { name: 'Span' }).getByRole('heading', { name: 'Resource' })).toBeVisible();
      await expectAccessible(page, 'trace with its panel');
      await page.goto(`ui/trace?id=${trace}&view=logs`);
      await expect(page.getByRole('grid').getByRole('row').first()).toBeVisible();
      await expectAccessible(page, 'logs of the trace');
    });

    test(`alerts (${scheme})`, async ({ page }) => {
      await page.goto('ui/alerts');
      await expect(page.getByRole('heading', { name: 'Alerts', level: 1 })).toBeVisible();
      await expect(page.getByRole('status').filter({ hasText: /rule/ })).toBeVisible();
      await expectAccessible(page, 'alerts');
      const details = page.getByRole('link', { name: 'Details' }).first();
      if (await details.count()) {
        await details.click();
        await expect(page.getByRole('heading', { name: /^Notices/ })).toBeVisible();
        await expectAccessible(page, 'alert');
      }
    });
  });
}

test.describe('on a phone', () => {
  test.use({ viewport: { width: 390, height: 844 } });

  test('trace and alerts fit 390 pixels', async ({ page }) => {
    const trace = await tracedLine(page);
    for (const path of [`ui/trace?id=${trace}`, 'ui/alerts', 'ui/search', 'ui/traces']) {
      await page.goto(path);
      await expect(page.locator('.bar, .trace-head').first()).toBeVisible();
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      expect(over, `${path} is wider than the screen`).toBeLessThanOrEqual(0);
    }
    await page.goto(`ui/trace?id=${trace}`);
    await page.getByRole('treegrid').getByRole('row').first().click();
    await expect(page.getByRole('region', { name: 'Span' })).toBeVisible();
    await expectAccessible(page, 'trace on a phone');
  });
});

test.describe('errors', () => {
  test.use({ allowed: [/status of 40[04]/] });
  test('a refused query and an unknown trace', async ({ page }) => {
    await page.goto('ui/search?q=status:[500+TO');
    await expect(page.getByRole('alert')).toBeVisible();
    await expectAccessible(page, 'refused query');
    await page.goto('ui/trace?id=00000000000000000000000000000abc');
    await expect(page.getByRole('heading', { name: /^No trace/ })).toBeVisible();
    await expectAccessible(page, 'unknown trace');
  });
});
