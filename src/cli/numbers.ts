import { InvalidArgumentError } from 'commander';

/** For an option that wants a whole number from `min` on; anything else is a usage error before anything is opened. */
export function wholeNumber(min: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value >= min) return value;
    throw new InvalidArgumentError(`It wants a whole number from ${min} on.`);
  };
}
