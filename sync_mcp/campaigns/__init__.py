"""Campaigns: many videos by one plan and one approval, each row made once and resumed after anything."""
