import { expect, test } from './page';

// The demo's payment service fails after about a minute; its rule fires soon after.
test('a firing rule is shown with its value, leads to its lines and to its own page', async ({ page }) => {
  test.setTimeout(300_000);
  await page.goto('ui/alerts');
  const firing = page.getByRole('region', { name: 'Firing' }).getByRole('article').first();
  await expect(firing).toBeVisible({ timeout: 240_000 });
  await expect(firing).toContainText('FIRING');
  await expect(firing).toContainText('value');
  await expect(firing).toContainText('threshold');

  await firing.getByRole('link', { name: 'Details' }).click();
  await expect(page).toHaveURL(/\/alert\?id=/);
  await expect(page.getByRole('heading', { name: /^Notices/ })).toBeVisible();

  // On a phone the result of each notice is in sight, without a scroll to the side.
  const wide = page.viewportSize()!;
  await page.setViewportSize({ width: 390, height: 844 });
  const result = page.getByRole('table').getByRole('row').nth(1).getByRole('cell').nth(1);
  await expect(result).toContainText(/delivered|pending|failed/);
  const place = (await result.boundingBox())!;
  expect(place.x).toBeGreaterThanOrEqual(0);
  expect(place.x + place.width).toBeLessThanOrEqual(390);
  await page.setViewportSize(wide);

  await page.getByRole('link', { name: 'Search its lines' }).click();
  await expect(page).toHaveURL(/\/search\?q=/);
  await expect(page.getByRole('grid').getByRole('row').first()).toBeVisible();
  await page.goBack();
  await page.goBack();
  await expect(page.getByRole('region', { name: 'Firing' })).toBeVisible();
});
