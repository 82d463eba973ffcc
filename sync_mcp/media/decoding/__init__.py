"""What a media file holds, found out in a process of its own."""
