import { addressBytes, isIn, parseRange, type AddressRange } from '../policy/decisions/address-class.ts';
import type { Egress } from '../policy/language/egress.ts';

/**
 * What these files of a policy name beyond what everybody reaches, and `offered` does not hold: ranges that a rule may reach though they
 * are special or this machine's own, and upstreams, whose address nobody judges. Of all profiles, used or not: which are
 * used can change with the task.
 */
export function privateReach(egress: Egress | undefined, offered: readonly string[]): readonly string[] {
  const ranges = offered.filter(isRange).map(parseRange);
  const rules = Object.values(egress?.profiles ?? {}).flat();
  return [
    ...rules.flatMap(({ id, addresses = [] }) =>
      addresses.filter((range) => !holds(ranges, parseRange(range))).map((range) => `rule ${id}, addresses ${range}`),
    ),
    ...(egress?.upstreams ?? [])
      .filter(({ to }) => !offered.includes(to) && !isAddressIn(ranges, to))
      .map(({ id, to }) => `upstream ${id} to ${to}`),
  ];
}

function isRange(text: string): boolean {
  return text.includes('/') && !text.startsWith('unix:');
}

function holds(ranges: readonly AddressRange[], wanted: AddressRange): boolean {
  return ranges.some((range) => range.bits <= wanted.bits && isIn(range, wanted.bytes));
}

/** Of `address:port`; a name may come to stand for any address. */
function isAddressIn(ranges: readonly AddressRange[], to: string): boolean {
  const bytes = addressBytes(to.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1'));
  return bytes !== undefined && ranges.some((range) => isIn(range, bytes));
}
