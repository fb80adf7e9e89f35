/* The audit log: only the filter is alive. */

import { filtered } from "./organizer-filter.js";

filtered()();
