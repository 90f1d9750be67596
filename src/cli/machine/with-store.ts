import { Store } from '../../store/store.ts';
import type { CliContext } from '../context.ts';

/** The store of this data directory, for as long as `work` takes; beside a service that runs, too. */
export async function withStore<T>(context: CliContext, work: (store: Store) => T | Promise<T>): Promise<T> {
  const store = Store.open((await context.openDataDir()).path);
  try {
    return await work(store);
  } finally {
    store.close();
  }
}
