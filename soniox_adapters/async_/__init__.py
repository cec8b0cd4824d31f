"""The async session: one class for asyncio and trio, running natively on each."""
