"""The async session, on asyncio and on trio."""
